/** Flags of `kaon master`; see `definitions.ts`. */
import { GLOB_MAX_CHARS } from '../protocol/glob.ts';
import { AgentId } from '../protocol/ids.ts';
import { TASK_CPU_MILLIS_MIN, TASK_MEM_MIB_MIN } from '../protocol/limits.ts';
import type { Resources } from '../protocol/resources.ts';
import type { DurationRange } from './flags.ts';
import { choiceOf, DURATION_MAX_MS, durationOf, flagError } from './flags.ts';
import type { ConnectionOptions, MasterCommandOptions } from './options.ts';
import type { RawOptions } from './parse-options.ts';
import { LOG_LEVELS, text } from './parse-options.ts';
import { resourcesOf } from './resource-flags.ts';

/** A shorter lease would be lost to a pause of the garbage collector or a busy network. */
const LEASE: DurationRange = { minMs: 500, maxMs: 600_000 };
const TIMEOUT: DurationRange = { minMs: 1000, maxMs: DURATION_MAX_MS };
const ROUND: DurationRange = { minMs: 10, maxMs: 60_000 };

/** @throws KaonError `usage` */
export function parseMasterOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
): MasterCommandOptions {
  const duration = (flag: string, key: string, range: DurationRange): number =>
    durationOf({ flag, value: text(raw, key) ?? '' }, range);
  return {
    ...connection,
    leaseMs: duration('--lease', 'lease', LEASE),
    offerTimeoutMs: duration('--offer-timeout', 'offerTimeout', TIMEOUT),
    agentTimeoutMs: duration('--agent-timeout', 'agentTimeout', TIMEOUT),
    frameworkTimeoutMs: duration('--framework-timeout', 'frameworkTimeout', TIMEOUT),
    minimumOffer: minimumOfferOf(text(raw, 'minimumOffer')),
    whitelist: whitelistOf(text(raw, 'whitelist')),
    preemptAfterMs: preemptAfterOf(text(raw, 'preemptAfter')),
    allocator: text(raw, 'allocator') ?? 'drf',
    allocatorTimeoutMs: duration('--allocator-timeout', 'allocatorTimeout', ROUND),
    logLevel: choiceOf({ flag: '--log-level', value: text(raw, 'logLevel') ?? 'info' }, LOG_LEVELS),
  };
}

function preemptAfterOf(value: string | undefined): number | undefined {
  return value === undefined ? undefined : durationOf({ flag: '--preempt-after', value }, TIMEOUT);
}

/** What the smallest task has, of a resource that is not named. */
function minimumOfferOf(value: string | undefined): Resources {
  const least = { cpuMillis: TASK_CPU_MILLIS_MIN, memMib: TASK_MEM_MIB_MIN };
  if (value === undefined) return least;
  const flag = { flag: '--minimum-offer', value };
  const { others, ...stated } = resourcesOf(flag, least);
  // Of anything else there may be none on an agent, and its CPU is of use all the same.
  if (others) throw flagError(flag, 'only cpus and mem have a smallest offer');
  return { ...least, ...stated };
}

function whitelistOf(value: string | undefined): readonly string[] | undefined {
  if (value === undefined) return undefined;
  const flag = { flag: '--whitelist', value };
  const names = value.split(',').map((name) => name.trim());
  const wrong = names.find((name) => !isAgentPattern(name));
  if (wrong === undefined) return names;
  throw flagError(
    flag,
    `${JSON.stringify(wrong)} is neither the id of an agent nor a pattern; write n1,rack7-*, or leave it out for all`,
  );
}

function isAgentPattern(name: string): boolean {
  if (name === '*') return true;
  return name.length <= GLOB_MAX_CHARS && AgentId.safeParse(name.replaceAll('*', 'x')).success;
}
