/**
 * Fields that a description has and its schema does not. The wire drops them, because a newer peer may send more; in the
 * hands of an author such a field is a misspelt one, and what it was meant to say would be lost without a word. Pure.
 */

/**
 * @param given as its author wrote it
 * @param taken the same after its schema has dropped what it does not know
 * @returns paths of what is missing in `taken`, like `command.enviroment`; none for a field whose value is undefined
 */
export function unknownFields(given: unknown, taken: unknown, path = ''): string[] {
  if (typeof given !== 'object' || given === null) return [];
  if (typeof taken !== 'object' || taken === null) return [];
  const kept = taken as Readonly<Record<string, unknown>>;
  return Object.entries(given).flatMap(([name, value]) => {
    const at = path === '' ? name : `${path}.${name}`;
    if (value === undefined) return [];
    return name in kept ? unknownFields(value, kept[name], at) : [at];
  });
}
