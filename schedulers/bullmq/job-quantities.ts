/** Amounts as producers and operators write them for the jobs of a queue, read into Kaon's units. Pure. */
import { z } from 'zod';
import { TASK_CPU_MILLIS_MIN, TASK_MEM_MIB_MIN } from '../../protocol/limits.ts';
import {
  formatCpus,
  formatMib,
  parseCpus,
  parseDuration,
  parseMib,
} from '../../protocol/quantities.ts';
import type { Amounts } from '../../protocol/resources.ts';
import {
  AMOUNT_MAX,
  CPU_MILLIS_MAX,
  DISK,
  meantResource,
  MEM_MIB_MAX,
  OTHERS_MAX,
  ResourceName,
} from '../../protocol/resources.ts';
import { Priority } from '../../protocol/task.ts';

function quantity(
  parse: (text: string) => number | undefined,
  [min, max]: readonly [number, number],
  words: string,
): z.ZodType<number> {
  return z.union([z.string().max(40), z.number()]).transform((given, cx) => {
    const value = parse(String(given));
    if (value === undefined || value < min || value > max) {
      cx.addIssue({ code: 'custom', message: `${JSON.stringify(given)} is not ${words}` });
      return z.NEVER;
    }
    return value;
  });
}

/** Cores, as people write them, in thousandths. */
export const Cpus = quantity(
  parseCpus,
  [TASK_CPU_MILLIS_MIN, CPU_MILLIS_MAX],
  `a number of cores from ${formatCpus(TASK_CPU_MILLIS_MIN)} to ${formatCpus(CPU_MILLIS_MAX)}: 0.5, 2, "250m"`,
);
/** Memory, as people write it, in MiB. */
export const Mem = quantity(
  (text) => (/^\d+$/.test(text) ? Number(text) : parseMib(text)),
  [TASK_MEM_MIB_MIN, MEM_MIB_MAX],
  `a size from ${formatMib(TASK_MEM_MIB_MIN)} to ${formatMib(MEM_MIB_MAX)}: "256M", "1.5G"; a number is MiB`,
);
/** A time as people write it, in milliseconds; a number is milliseconds. */
export function duration(maxMs: number): z.ZodType<number> {
  const parse = (text: string): number | undefined =>
    /^\d+$/.test(text) ? Number(text) : parseDuration(text);
  return quantity(parse, [1, maxMs], 'a duration: "30s", "10m"; a number is milliseconds');
}

const whole = (text: string): number | undefined =>
  /^-?\d{1,15}$/.test(text) ? Number(text) : undefined;
const mib = (text: string): number | undefined => whole(text) ?? parseMib(text);

const Disk = quantity(
  mib,
  [0, AMOUNT_MAX],
  `a size up to ${formatMib(AMOUNT_MAX)}: "10G"; a number is MiB`,
);
const Amount = quantity(whole, [0, AMOUNT_MAX], `a whole number up to ${String(AMOUNT_MAX)}`);

/** `{ "gpus": 1, "ports": 2, "disk": "10G" }`: what a job asks for beside CPU and memory, which have fields of their own. */
export const OtherResources = z
  .record(z.string().max(100), z.union([z.string(), z.number()]))
  .transform((given, cx): Amounts => {
    const amounts: [string, number][] = [];
    for (const [name, amount] of Object.entries(given)) {
      const problem = problemOfName(name);
      const read = (name === DISK ? Disk : Amount).safeParse(amount);
      const message = problem ?? read.error?.issues[0]?.message;
      if (message !== undefined) cx.addIssue({ code: 'custom', path: [name], message });
      else if (read.success) amounts.push([name, read.data]);
    }
    if (amounts.length > OTHERS_MAX) {
      cx.addIssue({ code: 'custom', message: `more than ${String(OTHERS_MAX)} resources` });
    }
    return Object.fromEntries(amounts);
  });

function problemOfName(name: string): string | undefined {
  if (name === 'cpus' || name === 'mem') return `${name} is a field of its own`;
  const meant = meantResource(name);
  if (meant !== undefined) return `${name} is no resource; did you mean ${meant}?`;
  return ResourceName.safeParse(name).error?.issues[0]?.message;
}

/** What a task states to the allocator: which tasks may have to make room for it, and for which it has to. */
export const TaskPriority = quantity(
  whole,
  [Priority.minValue ?? 0, Priority.maxValue ?? 0],
  'a whole number from -1000 to 1000',
);
