/** Random values of the wire for property tests: small ids, so that messages of one run meet each other. */
import fc from 'fast-check';
import type { CommandInfo } from '../../protocol/command.ts';
import type { AgentExecutor, ExecutorInfo } from '../../protocol/executor.ts';
import type { TaskGroupId } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import type { OfferConstraints } from '../../protocol/offer-constraints.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import { TaskState as taskStates } from '../../protocol/task-state.ts';
import type { AgentTask, ResourceRequest, TaskInfo, TaskStatus } from '../../protocol/task.ts';
import {
  agentIdOf,
  agentInfo,
  executorIdOf,
  executorInfo,
  frameworkIdOf,
  frameworkInfo,
  launchIdOf,
  offerIdOf,
  sessionOf,
  taskIdOf,
  updateIdOf,
} from './builders.ts';

export const anyAgentId = fc.constantFrom('a1', 'a2', 'a3').map(agentIdOf);
export const anyFrameworkId = fc.constantFrom('f1', 'f2', 'f3').map(frameworkIdOf);
export const anyTaskId = fc.constantFrom('t1', 't2', 't3', 't4').map(taskIdOf);
/** Of the first leader; beyond the first some thirty of a run they name nothing. */
export const anyOfferId = fc
  .integer({ min: 1, max: 30 })
  .map((n) => offerIdOf(`o1.t.${String(n)}`));
/** The same, of launches; and one that no master has made. */
export const anyLaunchId = fc
  .oneof(
    fc.integer({ min: 1, max: 8 }).map((n) => `1.t.${String(n)}`),
    fc.constant('9.x.1'),
  )
  .map(launchIdOf);
export const anySession = fc.constantFrom('s1', 's2', 's3').map(sessionOf);
export const anyState: fc.Arbitrary<TaskState> = fc.constantFrom(...taskStates.options);
export const anyUpdateId = fc
  .tuple(anyTaskId, anyState)
  .map(([taskId, state]) => updateIdOf(`${taskId}.${state}`));

export const anyResources = fc.record({
  cpuMillis: fc.constantFrom(10, 500, 1000, 3000),
  memMib: fc.constantFrom(4, 128, 1024, 4096),
});

const anyCommand: fc.Arbitrary<CommandInfo> = fc.record({
  argv: fc.array(fc.stringMatching(/^[^\0]*$/), { minLength: 1, maxLength: 3 }),
  environment: fc.dictionary(fc.stringMatching(/^[A-Z_]{1,8}$/), fc.stringMatching(/^[^\0]*$/)),
});
const anyWhenUnreachable = fc.constantFrom<TaskInfo['whenUnreachable'][]>('keep', {
  stopAfterMs: 15_000,
});

export const anyExecutorId = fc.constantFrom('e1', 'e2').map(executorIdOf);
/** Of few descriptions, so that tasks of one id often agree; with a command of its own, or the default executor. */
export const anyExecutor: fc.Arbitrary<ExecutorInfo> = fc
  .record({
    executorId: anyExecutorId,
    name: fc.constantFrom('first', 'first', 'first', 'second'),
    whenUnreachable: fc.oneof(
      { weight: 4, arbitrary: fc.constant('keep' as const) },
      anyWhenUnreachable,
    ),
  })
  .map(({ executorId, ...more }) => executorInfo(executorId, more));

const anyCommandTask: fc.Arbitrary<TaskInfo> = fc.record({
  taskId: anyTaskId,
  name: fc.string({ minLength: 1, maxLength: 20 }),
  resources: anyResources,
  command: anyCommand,
  killGracePeriodMs: fc.nat(3_600_000),
  whenUnreachable: anyWhenUnreachable,
  exclusive: fc.boolean(),
  uris: fc.constant<TaskInfo['uris']>([]),
  labels: fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.string({ maxLength: 20 })),
});

const anyGroupId = fc.constantFrom('g1', 'g2').map((id) => id as TaskGroupId);
/** Of a custom executor, and now and then of one with what does not go together. */
const anyExecutorTask: fc.Arbitrary<TaskInfo> = fc
  .record({
    task: anyCommandTask,
    executor: anyExecutor,
    groupId: fc.option(anyGroupId, { nil: undefined }),
    isOdd: fc.nat(15).map((n) => n === 0),
  })
  .map(({ task: { command, ...task }, executor, groupId, isOdd }) => ({
    ...task,
    executor,
    whenUnreachable: isOdd ? task.whenUnreachable : executor.whenUnreachable,
    ...(isOdd && command && { command }),
    ...(groupId !== undefined && { groupId }),
  }));

export const anyTask: fc.Arbitrary<TaskInfo> = fc.oneof(anyCommandTask, anyExecutorTask);

export const anyStatus: fc.Arbitrary<TaskStatus> = fc
  .record({
    frameworkId: anyFrameworkId,
    taskId: anyTaskId,
    launchId: anyLaunchId,
    state: anyState,
  })
  .map((status) => ({
    ...status,
    updateId: updateIdOf(`${status.taskId}.${status.state}`),
    source: 'SOURCE_AGENT',
  }));

export const anyAgentTask: fc.Arbitrary<AgentTask> = fc
  .record({
    frameworkId: anyFrameworkId,
    taskId: anyTaskId,
    launchId: anyLaunchId,
    name: fc.constant('task'),
    resources: anyResources,
    state: anyState,
    executorId: fc.option(anyExecutorId, { nil: undefined }),
  })
  .map(({ executorId, ...task }) => ({ ...task, ...(executorId !== undefined && { executorId }) }));

const anyAgentExecutor: fc.Arbitrary<AgentExecutor> = fc.record({
  frameworkId: anyFrameworkId,
  info: anyExecutor,
  launchId: anyLaunchId,
});

export const anyRequest: fc.Arbitrary<ResourceRequest> = fc.record({
  resources: fc.oneof(anyResources, fc.constant({ cpuMillis: 0, memMib: 0 })),
  count: fc.integer({ min: 1, max: 20 }),
  attributes: fc.constantFrom<Record<string, string>[]>({}, { rack: 'r1' }, { rack: 'r9' }),
});

const anyLeader = fc.constantFrom({ masterId: 'm1', epoch: 1 }, { masterId: 'm9', epoch: 7 });
const anyFilters = fc.record({ refuseMs: fc.constantFrom(0, 100, 5000) });
const offerIds = fc.array(anyOfferId, { minLength: 1, maxLength: 3 });

const ofFramework = <T extends Message['type']>(type: T): fc.Arbitrary<Message> =>
  anyFrameworkId.map((frameworkId) => ({ type, frameworkId }) as Message);

const anyWork: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    type: fc.constant('RegisterFramework' as const),
    framework: fc
      .record({ id: anyFrameworkId, role: fc.constantFrom('*', '*', 'eng', 'eng/prod') })
      .map(({ id, role }) => frameworkInfo(id, { role, failoverTimeoutMs: 1000 })),
    session: anySession,
  }),
  fc.record({
    type: fc.constant('RegisterAgent' as const),
    agent: fc
      .record({
        agentId: anyAgentId,
        cpuMillis: fc.constantFrom(2000, 4000),
        reservedFor: fc.constantFrom(undefined, undefined, 'eng', '*'),
      })
      .map(({ agentId, cpuMillis, reservedFor: role }) => {
        const resources = { cpuMillis: 1000, memMib: 1024 };
        return agentInfo(agentId, {
          resources: { cpuMillis, memMib: 8192 },
          attributes: { rack: 'r1' },
          ...(role !== undefined && { reservations: [{ role, resources }] }),
        });
      }),
    session: anySession,
    node: fc.constantFrom('n1', 'n1', 'n1', 'n2'),
    tasks: fc.array(anyAgentTask, { maxLength: 3 }),
    frameworks: fc.array(
      fc.record({
        info: anyFrameworkId.map((id) => frameworkInfo(id, { failoverTimeoutMs: 1000 })),
        detached: fc.boolean(),
      }),
      { maxLength: 2 },
    ),
    executors: fc.array(anyAgentExecutor, { maxLength: 2 }),
    ended: fc.array(
      fc.record({ frameworkId: anyFrameworkId, taskId: anyTaskId, launchId: anyLaunchId }),
      { maxLength: 2 },
    ),
    leaderSeen: fc.option(anyLeader, { nil: undefined }),
  }),
  fc.record({
    type: fc.constant('LaunchTasks' as const),
    frameworkId: anyFrameworkId,
    offerIds,
    tasks: fc.array(fc.oneof({ weight: 5, arbitrary: anyTask }, fc.constant({ taskId: 't1' })), {
      maxLength: 4,
    }),
    filters: anyFilters,
  }),
  fc.record({
    type: fc.constant('DeclineOffers' as const),
    frameworkId: anyFrameworkId,
    offerIds,
    filters: anyFilters,
  }),
  fc.record({
    type: fc.constant('RequestResources' as const),
    frameworkId: anyFrameworkId,
    requests: fc.array(anyRequest, { maxLength: 3 }),
  }),
  fc.record({
    type: fc.constant('StatusUpdateAcknowledgement' as const),
    frameworkId: anyFrameworkId,
    taskId: anyTaskId,
    updateId: anyUpdateId,
  }),
  fc.record({
    type: fc.constant('KillTask' as const),
    frameworkId: anyFrameworkId,
    taskId: anyTaskId,
    launchId: fc.option(anyLaunchId, { nil: undefined }),
    by: fc.constantFrom('framework' as const, 'operator' as const, 'master' as const),
  }),
  fc.record({ type: fc.constant('StatusUpdate' as const), status: anyStatus }),
  ofFramework('ReviveOffers'),
  ofFramework('SuppressOffers'),
  fc.record({
    type: fc.constant('ReconcileTasks' as const),
    frameworkId: anyFrameworkId,
    taskIds: fc.array(anyTaskId, { maxLength: 3 }),
  }),
);

/** Which executor, of whichever framework and agent. */
const executorIds = {
  frameworkId: anyFrameworkId,
  agentId: anyAgentId,
  executorId: anyExecutorId,
};
export const anyResizeId = fc.constantFrom('r1', 'r2').map(sessionOf);

/** Of executors, and of resources that change: what frameworks and agents say. */
const anyExecutorWork: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    type: fc.constant('ResizeTask' as const),
    resizeId: anyResizeId,
    frameworkId: anyFrameworkId,
    taskId: anyTaskId,
    resources: anyResources,
  }),
  fc.record({ type: fc.constant('ShutdownExecutor' as const), ...executorIds }),
  fc.record({
    type: fc.constant('FrameworkToExecutor' as const),
    ...executorIds,
    data: fc.string({ maxLength: 20 }),
  }),
  fc.record({
    type: fc.constant('ExitedExecutor' as const),
    frameworkId: anyFrameworkId,
    executorId: anyExecutorId,
    launchId: anyLaunchId,
    message: fc.string({ maxLength: 20 }),
  }),
  fc.record({
    type: fc.constant('TaskResized' as const),
    resizeId: anyResizeId,
    frameworkId: anyFrameworkId,
    taskId: anyTaskId,
    launchId: anyLaunchId,
    resources: anyResources,
  }),
  fc.record({
    type: fc.constant('ContainerShrink' as const),
    frameworkId: anyFrameworkId,
    executorId: anyExecutorId,
    launchId: anyLaunchId,
    isDelayed: fc.boolean(),
    limitMib: fc.nat(1000),
    neededMib: fc.nat(1000),
  }),
);

const anyFarewell: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ type: fc.constant('UnregisterAgent' as const), agentId: anyAgentId }),
  fc.record({ type: fc.constant('MarkAgentGone' as const), agentId: anyAgentId }),
  ofFramework('DeactivateFramework'),
  ofFramework('DetachFramework'),
  ofFramework('UnregisterFramework'),
  ofFramework('ShutdownFramework'),
);

/** What decides who is offered what, and questions about it. */
const anyOffering: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    type: fc.constantFrom('DeactivateAgent' as const, 'ReactivateAgent' as const),
    requestId: anyResizeId,
    agentId: anyAgentId,
  }),
  fc.record({
    type: fc.constant('UpdateOfferConstraints' as const),
    frameworkId: anyFrameworkId,
    offerConstraints: fc.constantFrom<OfferConstraints[]>(
      {},
      { '*': [[{ attribute: 'rack', predicate: 'matches', pattern: 'r*' }]] },
      { '*': [[{ attribute: 'rack', predicate: 'notExists' }]] },
    ),
  }),
  fc.record({ type: fc.constant('Explain' as const), frameworkId: anyFrameworkId }),
  fc.record({
    type: fc.constant('Explain' as const),
    frameworkId: anyFrameworkId,
    taskId: anyTaskId,
  }),
  fc.record({
    type: fc.constant('Explain' as const),
    need: fc.record({
      role: fc.constant('*'),
      resources: anyResources,
      count: fc.constant(3),
      attributes: fc.constant({}),
    }),
  }),
);
/** Of these, what operators say. */
export const OF_OPERATORS: readonly Message['type'][] = [
  'MarkAgentGone',
  'DeactivateAgent',
  'ReactivateAgent',
  'Explain',
];

/** What only a master says. */
const anyAnswer: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    type: fc.constant('AgentRegistered' as const),
    agentId: anyAgentId,
    master: anyLeader,
    resend: fc.array(anyLaunchId, { maxLength: 3 }),
  }),
  fc.record({ type: fc.constant('AgentError' as const), code: fc.string(), message: fc.string() }),
  fc.record({
    type: fc.constant('RunTask' as const),
    framework: anyFrameworkId.map((id) => frameworkInfo(id)),
    launchId: anyLaunchId,
    task: anyTask,
  }),
  fc.record({
    type: fc.constant('ExecutorLost' as const),
    agentId: anyAgentId,
    executorId: anyExecutorId,
    message: fc.string(),
  }),
  fc.record({
    type: fc.constant('UpdateFramework' as const),
    framework: anyFrameworkId.map((id) => frameworkInfo(id)),
    detached: fc.boolean(),
  }),
);

/** Everything that may stand in the inbox, and some of what may not; farewells are rarer than work. */
export const anyMessage: fc.Arbitrary<Message> = fc.oneof(
  { weight: 6, arbitrary: anyWork },
  { weight: 2, arbitrary: anyExecutorWork },
  { weight: 1, arbitrary: anyOffering },
  { weight: 1, arbitrary: anyFarewell },
  { weight: 1, arbitrary: anyAnswer },
);
