/** How a simulated framework behaves, and what it writes down of each task. */
import type { AgentId, ExecutorId, LaunchId, TaskId } from '../../protocol/ids.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import type { Random } from './random.ts';

/** How a framework behaves; drawn from the seed. */
export interface Character {
  /** Whether it says what it needs. */
  readonly statesDemand: boolean;
  /** Shares of what it does with an offer; the rest it sits on. */
  readonly accept: number;
  readonly decline: number;
  /** Mean time after which it accepts; often the offer is gone by then. */
  readonly hesitateMs: number;
  /** Mean time after which it acknowledges. */
  readonly acknowledgeMs: number;
  /** Share of launches with something wrong: used twice, too large, not valid, of two agents. */
  readonly nonsense: number;
  /** Share of its acts that are the kill of a task, a suppression or revival, a departure. */
  readonly kill: number;
  readonly suppress: number;
  readonly leave: number;
  readonly failoverTimeoutMs: number;
  /** Share of launches with the id of a task that has ended. */
  readonly reuse: number;
  /** Share of tasks that their node stops when it is cut off, and of those of which only one of a name may run. */
  readonly stopAfter: number;
  readonly exclusive: number;
  /** What it does when it has registered again. */
  readonly reconcile: 'explicit' | 'implicit' | 'both' | 'never';
  /** Tasks that it wants at most: a scheduler without an end of its work. */
  readonly tasksMax: number;
  /** Share of launches with executors, and of these the share with a group. */
  readonly executors: number;
  readonly groups: number;
  /** Share of its acts that are other resources for a task, the shutdown of an executor. */
  readonly resize: number;
  readonly shutdown: number;
}

/** What the framework has written down of a task. */
export interface Launch {
  readonly taskId: TaskId;
  /** Of a task of which only one may run. */
  readonly exclusiveName: string | undefined;
  /** Launches of this id that are known to be over. */
  readonly ended: Set<LaunchId>;
  /** Its agent cannot be reached. */
  isUnreachable: boolean;
  isTerminal: boolean;
  /** The framework left since and is told nothing more of it. */
  isAbandoned: boolean;
  state?: TaskState;
  /** The executor that runs it, and where that is. */
  place?: { readonly agentId: AgentId; readonly executorId: ExecutorId };
}

/** Takes a status into the book. What was known to be over may turn up after all, if Redis has lost that it was. */
export function note(launch: Launch, { state, launchId }: TaskStatus): void {
  if (launchId !== undefined && launch.ended.has(launchId)) return;
  const isOver = isTerminal(state) || state === 'TASK_UNKNOWN';
  if (isOver && launchId !== undefined) launch.ended.add(launchId);
  launch.isTerminal = isOver;
  launch.state = state;
  launch.isUnreachable = state === 'TASK_UNREACHABLE';
}

/** Draws how a framework behaves. */
export function drawCharacter(random: Random): Character {
  const sometimes = (value: number): number => (random.chance(0.5) ? value : 0);
  return {
    statesDemand: random.chance(0.5),
    accept: random.pick([0.5, 0.8]),
    decline: random.pick([0, 0.2]),
    hesitateMs: random.pick([5, 500, 3000]),
    acknowledgeMs: random.pick([0, 200, 4000]),
    nonsense: sometimes(0.1),
    kill: sometimes(0.2),
    suppress: sometimes(0.1),
    leave: sometimes(0.02),
    // A framework whose farewell is lost is there until then, and so are its tasks.
    failoverTimeoutMs: random.pick([3000, 20_000]),
    reuse: sometimes(0.3),
    stopAfter: sometimes(0.5),
    exclusive: sometimes(0.3),
    reconcile: random.pick(['explicit', 'implicit', 'both', 'never']),
    tasksMax: Infinity,
    executors: sometimes(random.pick([0.3, 0.9])),
    groups: random.pick([0, 0.4]),
    resize: sometimes(0.15),
    shutdown: sometimes(0.05),
  };
}
