/**
 * An agent's core with one executor, `e1`, whose launch is `x1`: 0.1 cores and 32 MiB, and tasks of 1 core and 128 MiB.
 * Tasks are launched as `k1`, `k2`, ... in the order of the calls. What the shell would answer, the test says.
 */
import type {
  AgentEffect,
  AgentEvent,
  ExecutorRef,
  JournalLine,
  TakenUpdate,
} from '../../../agent/core/events.ts';
import type { AgentState, AgentTaskEntry, ExecutorEntry } from '../../../agent/core/state.ts';
import type { EndedUnit } from '../../../agent/core/verdict.ts';
import type { ExecutorInfo } from '../../../protocol/executor.ts';
import type { ExecutorUpdate } from '../../../protocol/executor-messages.ts';
import type { LaunchId, TaskGroupId, TaskKey } from '../../../protocol/ids.ts';
import { executorKey, taskKey } from '../../../protocol/ids.ts';
import type { MessageOf } from '../../../protocol/messages.ts';
import type { Resources } from '../../../protocol/resources.ts';
import type { DeathCertificate, TaskInfo } from '../../../protocol/task.ts';
import { type AgentBench, createAgentBench, journaled, lines } from '../../support/agent-bench.ts';
import {
  agentIdOf,
  amount,
  executorIdOf,
  executorInfo,
  executorTask,
  frameworkIdOf,
  frameworkInfo,
  launchIdOf,
  sessionOf,
  taskIdOf,
} from '../../support/builders.ts';

export const F1 = frameworkIdOf('f1');
export const E1 = executorKey(F1, executorIdOf('e1'));
/** Of the executor alone, and with one and two tasks. */
export const ALONE = amount(0.1, 32);
export const WITH_ONE = amount(1.1, 160);
export const WITH_TWO = amount(2.1, 288);

export interface Hosting {
  readonly task?: Partial<TaskInfo>;
  readonly groupSize?: number;
  readonly launchId?: string;
  /** Default `x1`. */
  readonly executorLaunchId?: string;
}

export interface ExecutorBench {
  readonly agent: AgentBench;
  readonly state: AgentState;
  readonly info: ExecutorInfo;
  /** Everything that has gone into journals so far. */
  readonly journal: JournalLine[];
  do(event: AgentEvent): AgentEffect[];
  host(taskId: string, hosting?: Hosting): AgentEffect[];
  /** Tasks `t1` to `tN` of one group. */
  hostGroup(size: number): AgentEffect[];
  /** @param limits those that its unit was started with; default what is needed now */
  started(limits?: Resources): AgentEffect[];
  register(): AgentEffect[];
  /** @param tasks ids of those that it says it has; default all that it was given */
  comeBack(tasks?: readonly string[], updates?: readonly Partial<ExecutorUpdate>[]): AgentEffect[];
  disconnect(): AgentEffect[];
  /** The change of limits that was asked for has been made, or went only so far. */
  resized(limits?: Resources): AgentEffect[];
  resizeFailed(): AgentEffect[];
  prepared(taskId: string): AgentEffect[];
  update(
    taskId: string,
    state: ExecutorUpdate['state'],
    more?: Partial<ExecutorUpdate>,
    certificate?: DeathCertificate,
  ): AgentEffect[];
  ended(ended?: Partial<EndedUnit>): AgentEffect[];
  resize(taskId: string, resources: Resources, resizeId?: string): AgentEffect[];
  /** What the agent is told by the master. */
  shutDown(launchId?: string): AgentEffect[];
  readonly executor: ExecutorEntry;
  entry(taskId: string): AgentTaskEntry | undefined;
}

export function createExecutorBench(more: Partial<ExecutorInfo> = {}): ExecutorBench {
  const agent = createAgentBench();
  const { state } = agent;
  const info = executorInfo('e1', more);
  const journal: JournalLine[] = [];
  const e1: ExecutorRef = { key: E1, launchId: launchIdOf('x1') };
  let last: ExecutorEntry | undefined;
  let launches = 0;
  let updates = 0;
  const step = agent.do.bind(agent);
  const run = (event: AgentEvent): AgentEffect[] => {
    const effects = step(event);
    journal.push(...journaled(effects));
    last = state.executors.get(E1) ?? last;
    return effects;
  };
  // What the test has the agent itself do is heard of here, too.
  agent.do = run;
  const key = (taskId: string): TaskKey => taskKey(F1, taskIdOf(taskId));
  const launchOf = (taskId: string): LaunchId =>
    state.tasks.get(key(taskId))?.launchId ?? launchIdOf('none');
  const executor = (): ExecutorEntry => {
    if (!last) throw new Error('no executor has been launched');
    return last;
  };
  const updateOf = (
    taskId: string,
    updated: Partial<ExecutorUpdate>,
  ): TakenUpdate & { readonly update: ExecutorUpdate } => {
    updates += 1;
    const update = {
      taskId: taskIdOf(taskId),
      launchId: launchOf(taskId),
      updateId: `u${String(updates)}`,
      state: 'TASK_RUNNING' as const,
      ...updated,
    };
    return { update };
  };
  const bench: ExecutorBench = {
    ...{ agent, state, info, journal, do: run },
    host: (taskId, { task = {}, groupSize, launchId, executorLaunchId = 'x1' } = {}) => {
      launches += 1;
      return run({
        type: 'message',
        message: {
          type: 'RunTask',
          framework: frameworkInfo('f1'),
          launchId: launchIdOf(launchId ?? `k${String(launches)}`),
          task: executorTask(taskId, info, task),
          executorLaunchId: launchIdOf(executorLaunchId),
          ...(groupSize !== undefined && { groupSize }),
        },
      });
    },
    hostGroup: (size) => {
      const task = { groupId: 'g1' as TaskGroupId };
      return Array.from({ length: size }, (_, index) =>
        bench.host(`t${String(index + 1)}`, { task, groupSize: size }),
      ).flat();
    },
    started: (limits = executor().needed) => run({ type: 'unit.started', ...e1, limits }),
    register: () => run({ type: 'executor.registered', ...e1 }),
    comeBack: (tasks, said = []) => {
      const has = tasks ?? given(executor());
      return run({
        type: 'executor.registered',
        ...e1,
        memory: {
          tasks: has.map((taskId) => ({
            launchId: launchOf(taskId),
            task: executorTask(taskId, info),
          })),
          updates: said.map((update) => updateOf(update.taskId ?? 't1', update)),
        },
      });
    },
    disconnect: () => run({ type: 'executor.disconnected', ...e1 }),
    resized: (limits = executor().resizing ?? executor().granted) =>
      run({ type: 'container.resized', ...e1, limits }),
    resizeFailed: () => run({ type: 'container.resize-failed', ...e1, message: 'no such unit' }),
    prepared: (taskId) =>
      run({ type: 'hosted.prepared', key: key(taskId), launchId: launchOf(taskId) }),
    update: (taskId, taskState, updated = {}, certificate) => {
      const taken = updateOf(taskId, { state: taskState, ...updated });
      return run({
        type: 'executor.update',
        ...e1,
        taken: { ...taken, ...(certificate && { certificate }) },
      });
    },
    ended: (ended = {}) =>
      run({
        type: 'unit.ended',
        ...e1,
        ended: { result: 'exit-code', certificate: { exitCode: 3 }, ...ended },
      }),
    resize: (taskId, resources, resizeId = 'r1') =>
      run({
        type: 'message',
        message: {
          type: 'ResizeTask',
          resizeId: sessionOf(resizeId),
          frameworkId: F1,
          taskId: taskIdOf(taskId),
          resources,
        },
      }),
    shutDown: (launchId) => run({ type: 'message', message: shutdownMessage(launchId) }),
    get executor() {
      return executor();
    },
    entry: (taskId) => agent.entry(taskId),
  };
  return bench;
}

function shutdownMessage(launchId: string | undefined): MessageOf<'ShutdownExecutor'> {
  return {
    type: 'ShutdownExecutor',
    frameworkId: F1,
    agentId: agentIdOf('a1'),
    executorId: executorIdOf('e1'),
    ...(launchId !== undefined && { launchId: launchIdOf(launchId) }),
  };
}

function given({ tasks }: ExecutorEntry): string[] {
  return [...tasks.values()].filter(({ started }) => started).map(({ task }) => task.taskId);
}

/** The executor is registered, and has these tasks. */
export function benchWithTasks(
  taskIds: readonly string[],
  more: Partial<ExecutorInfo> = {},
): ExecutorBench {
  const bench = createExecutorBench(more);
  for (const taskId of taskIds) bench.host(taskId);
  bench.started();
  bench.register();
  for (const taskId of taskIds) if (bench.entry(taskId)?.started === false) bench.prepared(taskId);
  return bench;
}

/** As `lines`, of what is about the container, hand-overs and starts. */
export function moves(effects: readonly AgentEffect[]): string[] {
  return lines(effects).filter((line) => /^(start|give|limits|ContainerShrink)/.test(line));
}
