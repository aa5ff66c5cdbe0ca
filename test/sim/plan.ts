/** What a run is: how large, how long, by which times, with which faults and frameworks; all drawn from its seed. */
import type { Faults } from './faults.ts';
import { CALM, drawFaults } from './faults.ts';
import type { Character } from './character.ts';
import { drawCharacter } from './character.ts';
import type { Random } from './random.ts';
import type { Timing } from './timing.ts';
import { REAL, SHORT } from './timing.ts';

export interface Plan {
  readonly masters: number;
  readonly nodes: number;
  readonly characters: readonly Character[];
  readonly timing: Timing;
  readonly faults: Faults;
  /** How long faults come. */
  readonly faultsMs: number;
  /** Longest time in which a healed cluster finishes what it has. */
  readonly healingMs: number;
  /** Batches between two looks at the leader's books. */
  readonly booksEvery: number;
}

/** What a test or a mutation wants otherwise. */
export interface Wishes {
  readonly faults?: Partial<Faults>;
  readonly character?: Partial<Character>;
  readonly faultsMs?: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

/** A small cluster, by short times, with much that goes wrong. */
export function drawPlan(random: Random, wishes: Wishes = {}): Plan {
  const faults = { ...drawFaults(random), ...wishes.faults };
  const masters = random.int(2, 3);
  const nodes = random.int(1, 4);
  const characters = Array.from({ length: random.int(1, 3) }, () => ({
    ...drawCharacter(random),
    ...wishes.character,
  }));
  const faultsMs = wishes.faultsMs ?? random.pick([30_000, 40_000, 90_000]);
  return {
    masters,
    nodes,
    characters,
    timing: SHORT,
    faults,
    faultsMs,
    healingMs: 4 * MINUTE_MS,
    booksEvery: 1,
  };
}

/** Three masters, ten agents and three frameworks by the times of production: hours, mostly calm. */
export function drawLongPlan(random: Random, hours: number): Plan {
  const everyHours = (mean: number): number =>
    random.chance(0.7) ? Math.round(mean * HOUR_MS * (0.5 + random.next())) : 0;
  const faults: Faults = {
    ...CALM,
    slowCall: 0.0001,
    slowCallMs: 2000,
    breakCall: 0.0001,
    lateCall: 0.5,
    partitionEveryMs: everyHours(4),
    partitionMs: 60_000,
    deafShare: 0.3,
    redeliver: 0.001,
    redisRestartEveryMs: everyHours(6),
    redisCrashEveryMs: everyHours(12),
    redisFlushEveryMs: everyHours(48),
    redisFailoverEveryMs: everyHours(8),
    replicaLagMs: random.pick([100, 1000, 5000]),
    clockSkewMs: random.pick([0, 50, 1000]),
    splitBrainMs: random.pick([0, 3000, 10_000]),
    redisSlowEveryMs: everyHours(4),
    redisFullEveryMs: everyHours(24),
    masterPauseEveryMs: everyHours(4),
    masterPauseMs: 4000,
    masterCrashEveryMs: everyHours(4),
    agentCrashEveryMs: everyHours(6),
    agentPauseEveryMs: everyHours(6),
    rebootEveryMs: everyHours(24),
    handStopEveryMs: everyHours(8),
    checkpointLossEveryMs: everyHours(12),
    diskFullEveryMs: everyHours(12),
    slowSystemd: 0.001,
    slowSystemdMs: 5000,
    startFailure: 0.01,
    lostSignal: 0.01,
    frameworkCrashEveryMs: everyHours(4),
    frameworkPauseEveryMs: everyHours(8),
    frameworkPauseMs: 60_000,
    executorCrashEveryMs: everyHours(8),
    executorBreakEveryMs: everyHours(4),
    executorPauseEveryMs: everyHours(8),
    muteExecutor: 0.01,
    resizeFailure: 0.01,
    shrinkRefusal: 0.1,
  };
  const characters = Array.from({ length: 3 }, () => ({
    ...drawCharacter(random),
    statesDemand: true,
    accept: 0.95,
    decline: 0.02,
    hesitateMs: 50,
    acknowledgeMs: 20,
    nonsense: 0,
    kill: 0.05,
    suppress: 0,
    leave: 0,
    resize: 0.05,
    shutdown: 0.01,
    failoverTimeoutMs: 3_600_000,
    tasksMax: 12,
  }));
  return {
    masters: 3,
    nodes: 10,
    characters,
    timing: REAL,
    faults,
    faultsMs: hours * HOUR_MS,
    healingMs: 30 * MINUTE_MS,
    booksEvery: 100,
  };
}
