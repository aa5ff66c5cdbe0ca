/**
 * Resources whose units have numbers: ports, GPUs. An agent says which it has; how many of them a task has is in its
 * resources like any other amount, and which ones the agent decides when it takes the task.
 */
import { z } from 'zod';
import { OTHERS_MAX, ResourceName } from './resources.ts';

/** Of one resource; more ranges than that are a mistake. */
export const RANGES_MAX = 64;
/** The largest that a unit can have: ports end at 65,535. */
export const NUMBER_MAX = 65_535;

const UnitNumber = z.int().min(0).max(NUMBER_MAX);

/** First and last, both included: `[31000, 31999]`. */
export const NumberRange = z.tuple([UnitNumber, UnitNumber]);
export type NumberRange = z.infer<typeof NumberRange>;

/** What an agent has, by resource; ranges of one resource do not overlap. */
export const NumberRanges = z
  .record(ResourceName, z.array(NumberRange).max(RANGES_MAX))
  .refine((ranges) => Object.keys(ranges).length <= OTHERS_MAX);
export type NumberRanges = Readonly<z.infer<typeof NumberRanges>>;

/** Which ones a task has, by resource, ascending. */
export const AssignedNumbers = z.record(ResourceName, z.array(UnitNumber));
export type AssignedNumbers = Readonly<z.infer<typeof AssignedNumbers>>;

/** @returns the numbers of all ranges, in their order */
export function* numbersIn(ranges: readonly NumberRange[]): Generator<number> {
  for (const [first, last] of ranges) {
    for (let number = first; number <= last; number += 1) yield number;
  }
}

/** @returns how many numbers there are */
export function countIn(ranges: readonly NumberRange[]): number {
  return ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
}

/**
 * What a task finds its numbers by: of `ports` 31000 and 31001 `KAON_PORTS=31000,31001`, `KAON_PORTS_0=31000` and
 * `KAON_PORTS_1=31001`. What cannot be in a name of a variable is an underscore.
 */
export function environmentOf(numbers: AssignedNumbers): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const [name, some] of Object.entries(numbers)) {
    const variable = `KAON_${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}`;
    environment[variable] = some.join(',');
    for (const [index, number] of some.entries()) {
      environment[`${variable}_${String(index)}`] = String(number);
    }
  }
  return environment;
}
