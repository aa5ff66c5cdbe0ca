/** Whatever can happen to an executor and its tasks, in any order, as data that fast-check can shrink. */
import fc from 'fast-check';
import type { AgentEffect } from '../../../agent/core/events.ts';
import type { AgentState, AgentTaskEntry, ExecutorEntry } from '../../../agent/core/state.ts';
import type { ExecutorUpdate } from '../../../protocol/executor-messages.ts';
import type { TaskGroupId } from '../../../protocol/ids.ts';
import { isTerminal } from '../../../protocol/task-state.ts';
import { amount } from '../../support/builders.ts';
import type { ExecutorBench } from './executor-bench.ts';

export type Action =
  | { readonly what: 'host' | 'group' | 'prepared' | 'acknowledge'; readonly taskId: string }
  | { readonly what: 'update'; readonly taskId: string; readonly state: ExecutorUpdate['state'] }
  | { readonly what: 'kill'; readonly taskId: string; readonly gracePeriodMs: number }
  | { readonly what: 'resize'; readonly taskId: string; readonly memMib: number }
  | { readonly what: 'return'; readonly knows: readonly string[] }
  | { readonly what: 'wait'; readonly ms: number }
  | {
      readonly what:
        'started' | 'register' | 'disconnect' | 'resized' | 'resizeFailed' | 'shutDown';
    };

const taskId = fc.constantFrom('t1', 't2', 't3', 't4');
const state = fc.constantFrom<ExecutorUpdate['state'][]>(
  'TASK_STARTING',
  'TASK_RUNNING',
  'TASK_KILLING',
  'TASK_FINISHED',
  'TASK_FAILED',
  'TASK_KILLED',
);

/** An executor is started and registers early more often than not, or little would happen to its tasks. */
export const anyActions: fc.Arbitrary<Action[]> = fc
  .tuple(
    fc.constantFrom<Action[][]>([], [{ what: 'started' }, { what: 'register' }]),
    fc.array(
      fc.oneof<fc.Arbitrary<Action>[]>(
        fc.record({
          what: fc.constantFrom('host', 'group', 'prepared', 'acknowledge', 'acknowledge'),
          taskId,
        }),
        fc.record({ what: fc.constant('update'), taskId, state }),
        fc.record({ what: fc.constant('kill'), taskId, gracePeriodMs: fc.nat(9000) }),
        fc.record({
          what: fc.constant('resize'),
          taskId,
          memMib: fc.integer({ min: 4, max: 999 }),
        }),
        fc.record({ what: fc.constant('return'), knows: fc.subarray(['t1', 't2', 't3', 't4']) }),
        fc.record({ what: fc.constant('wait'), ms: fc.constantFrom(200, 1000, 60_000) }),
        fc.record({
          what: fc.constantFrom(
            'started',
            'register',
            'disconnect',
            'resized',
            'resizeFailed',
            'shutDown',
          ),
        }),
      ),
      { size: 'max', maxLength: 60 },
    ),
  )
  .map(([first, then]) => [{ what: 'host', taskId: 't1' }, ...first, ...then]);

export function perform(bench: ExecutorBench, action: Action): AgentEffect[] {
  switch (action.what) {
    case 'host':
      return bench.host(action.taskId);
    case 'group':
      return bench.host(action.taskId, {
        task: { groupId: 'g1' as TaskGroupId },
        groupSize: 2,
      });
    case 'prepared':
      return bench.prepared(action.taskId);
    case 'acknowledge': {
      const { updates = [] } = bench.entry(action.taskId) ?? {};
      return updates.flatMap(({ updateId = '' }) =>
        bench.agent.acknowledge(action.taskId, updateId),
      );
    }
    case 'update':
      return bench.update(action.taskId, action.state);
    case 'kill':
      return bench.agent.kill(action.taskId, action.gracePeriodMs);
    case 'resize':
      return bench.resize(action.taskId, amount(1, action.memMib));
    case 'return':
      return bench.comeBack(action.knows.filter((id) => bench.entry(id)?.state !== undefined));
    case 'wait':
      return bench.agent.wait(action.ms);
    case 'resized':
      return bench.executor.resizing ? bench.resized() : [];
    case 'resizeFailed':
      return bench.executor.resizing ? bench.resizeFailed() : [];
    default:
      return bench[action.what]();
  }
}

/** What has to be the same for an agent that begins anew. */
export function pictureOf(state: AgentState, executor: ExecutorEntry): object {
  const hosted = [...state.tasks.values()].filter((entry) => entry.hosted?.executor === executor);
  return {
    tasks: hosted.map(pictureOfTask).sort((a, b) => (a.launchId < b.launchId ? -1 : 1)),
    live: [...executor.tasks.keys()].sort(),
    needed: executor.needed,
    unacknowledged: executor.unacknowledged,
    isRegistered: executor.isRegistered,
  };
}

function pictureOfTask({ launchId, task, state, kill, updates }: AgentTaskEntry): {
  readonly launchId: string;
} {
  const owed = updates.filter((update) => isTerminal(update.state));
  return Object.assign(
    { launchId, state, resources: task.resources, groupId: task.groupId },
    { owed, kill: isTerminal(state) ? undefined : kill?.by },
  );
}
