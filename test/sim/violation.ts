/** A rule was broken: the end of the run. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export function fail(message: string): never {
  throw new Violation(message);
}
