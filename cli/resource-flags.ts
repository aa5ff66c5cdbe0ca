/** Flags that name resources: what an agent has, what a role is promised, what a task asks for. */
import { formatCpus } from '../protocol/quantities.ts';
import {
  AMOUNT_MAX,
  DISK,
  meantResource,
  NO_RESOURCES,
  ResourceName,
} from '../protocol/resources.ts';
import type { Amounts, Resources } from '../protocol/resources.ts';
import { countIn, NumberRange, RANGES_MAX } from '../protocol/numbers.ts';
import type { NumberRanges } from '../protocol/numbers.ts';
import { Priority } from '../protocol/task.ts';
import type { Flag } from './flags.ts';
import { cpusOf, flagError, memOf } from './flags.ts';

/** What is said of resources; numbers only of those that are numbered. */
export type StatedResources = Partial<Resources> & { readonly numbers?: NumberRanges };

/**
 * `cpus=4,mem=8G`, either of them or both, and anything else: `disk=100G`, `gpus=2`, `license=5`; of an agent, where the
 * units have numbers, `ports=31000-31999+8080`.
 *
 * @param least what is allowed at least of CPU and memory: 0 for a reserve, a task's minimum for what is offered
 * @param isAgent whether units with numbers are named by them
 */
export function resourcesOf(flag: Flag, least: Resources, isAgent = false): StatedResources {
  const amounts = new Map<string, number>();
  const numbers: Record<string, NumberRange[]> = {};
  for (const { name, ...inner } of partsOf(flag)) {
    const isOwn = name === 'cpus' || name === 'mem';
    if (!isOwn) {
      checkName(flag, name, 'not a list of resources; write cpus=4,mem=8G, or one of the two');
    }
    if (amounts.has(name)) throw flagError(flag, `${name} is given twice`);
    const ranges = isAgent && !isOwn ? rangesOf(inner, name) : undefined;
    if (ranges) numbers[name] = ranges;
    amounts.set(name, ranges ? countIn(ranges) : amountOf(inner, name, least));
  }
  return statedOf(Object.fromEntries(amounts), numbers);
}

function partsOf({ flag, value }: Flag): (Flag & { readonly name: string })[] {
  return value.split(',').map((part) => {
    const [, name = '', amount = ''] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(part) ?? [];
    return { flag, name, value: amount, typed: part.trim() };
  });
}

function statedOf(
  amounts: Readonly<Record<string, number>>,
  numbers: NumberRanges,
): StatedResources {
  const { cpus: cpuMillis, mem: memMib, ...others } = amounts;
  return {
    ...(cpuMillis !== undefined && { cpuMillis }),
    ...(memMib !== undefined && { memMib }),
    ...(Object.keys(others).length > 0 && { others }),
    ...(Object.keys(numbers).length > 0 && { numbers }),
  };
}

/** What is kept for the system is kept of what is detected: CPU and memory. */
export function reserveOf(value: string | undefined): Partial<Resources> {
  if (value === undefined) return {};
  const flag = { flag: '--reserve', value };
  const { others, ...reserve } = resourcesOf(flag, NO_RESOURCES);
  if (others) throw flagError(flag, 'only cpus and mem can be kept for the system');
  return reserve;
}

/** @returns the value of a flag that says the same; empty for nothing */
export function writeResources({ cpuMillis, memMib, others, numbers }: StatedResources): string {
  const written = (name: string, amount: number): string => {
    const ranges = numbers?.[name];
    if (ranges) return ranges.map(([first, last]) => `${String(first)}-${String(last)}`).join('+');
    return name === DISK ? `${String(amount)}M` : String(amount);
  };
  return [
    ...(cpuMillis === undefined ? [] : [`cpus=${formatCpus(cpuMillis)}`]),
    ...(memMib === undefined ? [] : [`mem=${String(memMib)}M`]),
    ...Object.entries(others ?? {}).map(([name, amount]) => `${name}=${written(name, amount)}`),
  ].join(',');
}

/**
 * `disk=10G`, `gpus=1`, each once: what a task asks for beside CPU and memory, which have options of their own.
 *
 * @returns undefined for nothing
 */
export function amountsOf(flag: string, values: readonly string[]): Amounts | undefined {
  const amounts = new Map<string, number>();
  for (const typed of values) {
    const [name = '', value = ''] = typed.split(/=(.*)/s);
    const whole = { flag, value: typed };
    if (name === 'cpus' || name === 'mem') {
      throw flagError(whole, `write --${name} ${value === '' ? '...' : value}`);
    }
    checkName(whole, name, 'not a resource; write gpus=1 or disk=10G');
    if (amounts.has(name)) throw flagError(whole, `${name} is given twice`);
    amounts.set(name, amountOf({ flag, value, typed }, name));
  }
  return amounts.size > 0 ? Object.fromEntries(amounts) : undefined;
}

/** @returns -1000 to 1000 */
export function priorityOf(value: string): number {
  const parsed = /^-?\d+$/.test(value) ? Priority.safeParse(Number(value)) : undefined;
  if (parsed?.success === true) return parsed.data;
  throw flagError({ flag: '--priority', value }, 'not a whole number from -1000 to 1000');
}

function checkName(flag: Flag, name: string, problem: string): void {
  const meant = meantResource(name);
  if (meant !== undefined) throw flagError(flag, `${name} is no resource; did you mean ${meant}?`);
  if (!ResourceName.safeParse(name).success) throw flagError(flag, problem);
}

function amountOf(flag: Flag, name: string, least = NO_RESOURCES): number {
  if (name === 'cpus') return cpusOf(flag, least.cpuMillis);
  if (name === 'mem') return memOf(flag, least.memMib);
  if (name === DISK) return memOf(flag, 0);
  const amount = /^\d+$/.test(flag.value) ? Number(flag.value) : NaN;
  if (amount <= AMOUNT_MAX) return amount;
  throw flagError(flag, `not a whole number up to ${String(AMOUNT_MAX)}`);
}

/** @returns undefined for a plain amount of something; GPUs are numbered from 0, ports always have numbers */
function rangesOf(flag: Flag, name: string): NumberRange[] | undefined {
  const { value } = flag;
  if (name === 'gpus' && /^[1-9]\d{0,3}$/.test(value)) return [[0, Number(value) - 1]];
  if (name === DISK || (name !== 'ports' && /^\d*$/.test(value))) return undefined;
  const ranges = value
    .split('+')
    .map((text) => rangeOf(flag, text))
    .sort(([a], [b]) => a - b);
  if (ranges.length > RANGES_MAX) throw flagError(flag, `more than ${String(RANGES_MAX)} ranges`);
  for (const [index, [first]] of ranges.entries()) {
    const before = ranges[index - 1];
    if (before && before[1] >= first) throw flagError(flag, `${String(first)} is in it twice`);
  }
  return ranges;
}

function rangeOf(flag: Flag, text: string): NumberRange {
  const [, first = 'none', last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const range = NumberRange.safeParse([Number(first), Number(last)]);
  if (range.success && range.data[0] <= range.data[1]) return range.data;
  throw flagError(flag, 'not numbers; write 31000-31999, 8080 or 31000-31999+8080');
}
