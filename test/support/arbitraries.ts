/** Random values of the wire for property tests: small ids, so that messages of one run meet each other. */
import fc from 'fast-check';
import type { Message } from '../../protocol/messages.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import { TaskState as taskStates } from '../../protocol/task-state.ts';
import type { AgentTask, ResourceRequest, TaskInfo, TaskStatus } from '../../protocol/task.ts';
import {
  agentIdOf,
  agentInfo,
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

export const anyTask: fc.Arbitrary<TaskInfo> = fc.record({
  taskId: anyTaskId,
  name: fc.string({ minLength: 1, maxLength: 20 }),
  resources: anyResources,
  command: fc.record({
    argv: fc.array(fc.stringMatching(/^[^\0]*$/), { minLength: 1, maxLength: 3 }),
    environment: fc.dictionary(fc.stringMatching(/^[A-Z_]{1,8}$/), fc.stringMatching(/^[^\0]*$/)),
  }),
  killGracePeriodMs: fc.nat(3_600_000),
  whenUnreachable: fc.constantFrom<TaskInfo['whenUnreachable'][]>('keep', { stopAfterMs: 15_000 }),
  exclusive: fc.boolean(),
  labels: fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.string({ maxLength: 20 })),
});

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

export const anyAgentTask: fc.Arbitrary<AgentTask> = fc.record({
  frameworkId: anyFrameworkId,
  taskId: anyTaskId,
  launchId: anyLaunchId,
  name: fc.constant('task'),
  resources: anyResources,
  state: anyState,
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
    framework: anyFrameworkId.map((id) => frameworkInfo(id, { failoverTimeoutMs: 1000 })),
    session: anySession,
  }),
  fc.record({
    type: fc.constant('RegisterAgent' as const),
    agent: fc
      .record({ agentId: anyAgentId, cpuMillis: fc.constantFrom(2000, 4000) })
      .map(({ agentId, cpuMillis }) =>
        agentInfo(agentId, { resources: { cpuMillis, memMib: 8192 }, attributes: { rack: 'r1' } }),
      ),
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

const anyFarewell: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ type: fc.constant('UnregisterAgent' as const), agentId: anyAgentId }),
  fc.record({ type: fc.constant('MarkAgentGone' as const), agentId: anyAgentId }),
  ofFramework('DeactivateFramework'),
  ofFramework('DetachFramework'),
  ofFramework('UnregisterFramework'),
  ofFramework('ShutdownFramework'),
);

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
    type: fc.constant('UpdateFramework' as const),
    framework: anyFrameworkId.map((id) => frameworkInfo(id)),
    detached: fc.boolean(),
  }),
);

/** Everything that may stand in the inbox, and some of what may not; farewells are rarer than work. */
export const anyMessage: fc.Arbitrary<Message> = fc.oneof(
  { weight: 6, arbitrary: anyWork },
  { weight: 1, arbitrary: anyFarewell },
  { weight: 1, arbitrary: anyAnswer },
);
