/** One run: a cluster, faults for a while, then peace, after which everything must come to its end. */
import { Checks } from './checks.ts';
import { Cluster } from './cluster.ts';
import { disturb } from './disturb.ts';
import { describeFaults } from './faults.ts';
import type { Seams } from './mutation.ts';
import { PRODUCTION } from './mutation.ts';
import type { Plan, Wishes } from './plan.ts';
import { drawLongPlan, drawPlan } from './plan.ts';
import { settle } from './settle.ts';
import { Violation } from './violation.ts';
import { EPOCH_MS, World } from './world.ts';

const HOUR_MS = 3_600_000;
/** In a long run this often what ended long ago is forgotten. */
const TIDY_MS = 300_000;
const KEEP_ENDED = 2000;

export interface Outcome {
  readonly seed: number;
  /** What was wrong; undefined if nothing. */
  readonly violation: string | undefined;
  /** Empty unless the run was logged. */
  readonly lines: readonly string[];
  readonly digest: string;
  /** How many tasks were launched: a run in which nothing happens proves nothing. */
  readonly tasks: number;
  /** How many executors were. */
  readonly executors: number;
  /** How often Redis was restarted, emptied or replaced. */
  readonly losses: number;
  readonly simulatedMs: number;
}

export interface RunOptions {
  readonly seams?: Seams;
  readonly wishes?: Wishes | undefined;
  /** Keep every event as a line. */
  readonly isLogged?: boolean;
  /** Hours of the large and mostly calm cluster; undefined: the small and stormy one. */
  readonly hours?: number | undefined;
}

export function simulate(seed: number, options: RunOptions = {}): Outcome {
  const { seams = PRODUCTION, wishes, isLogged = false, hours } = options;
  const world = new World(seed, isLogged);
  const { random } = world;
  const plan = hours === undefined ? drawPlan(random, wishes) : drawLongPlan(random, hours);
  const checks = new Checks(world, plan.timing);
  world.log('world', () => `seed ${seed}: ${describeFaults(plan.faults)}`);
  let violation: string | undefined;
  try {
    const cluster = new Cluster(world, plan, checks, seams);
    disturb(cluster);
    runFaults(cluster, plan);
    cluster.heal();
    settle(cluster);
  } catch (error) {
    // A broken assumption of a core (an exception) is a finding like any other.
    violation = error instanceof Violation ? error.message : String((error as Error).stack);
    world.log('world', `VIOLATION ${violation}`);
  }
  return {
    seed,
    violation,
    lines: world.lines,
    digest: world.digest(),
    tasks: checks.tasks,
    executors: checks.executorLaunches,
    losses: checks.losses,
    simulatedMs: world.nowMs - EPOCH_MS,
  };
}

function runFaults({ world, checks }: Cluster, plan: Plan): void {
  const endMs = EPOCH_MS + plan.faultsMs;
  while (world.nowMs < endMs) {
    world.runUntil(Math.min(endMs, world.nowMs + TIDY_MS));
    if (plan.faultsMs < HOUR_MS) continue;
    checks.processes.tidy(KEEP_ENDED);
    checks.told.tidy(KEEP_ENDED);
    checks.book.checkProjection();
  }
}
