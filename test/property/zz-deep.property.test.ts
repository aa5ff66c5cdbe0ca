/**
 * Agents that do what they are told and say what is so, frameworks that come and go, and a master that loses contact,
 * leadership and sessions in between: what a framework is told of one launch never contradicts itself, no launch is
 * started twice, and the master stops on its own word only what it has said to be over.
 */
import { test } from '@jest/globals';
import fc from 'fast-check';
import { offerResources } from '../../master/core/step.ts';
import type { TaskGroupId } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import {
  agentIdOf,
  amount,
  executorIdOf,
  executorInfo,
  executorTask,
  frameworkIdOf,
  sessionOf,
  taskIdOf,
  taskInfo,
} from '../support/builders.ts';
import { assertInvariants } from '../support/invariants.ts';
import type { World } from '../support/zz-world.ts';
import {
  counts,
  assertSettled,
  become,
  createWorld,
  endExecutor,
  feed,
  read,
  pass,
  perform,
  registerNode,
  registerScheduler,
  say,
  store,
  takeOver,
} from '../support/zz-world.ts';

const AGENTS = ['a1', 'a2', 'a3'] as const;
const FRAMEWORKS = ['f1', 'f2'] as const;
type AgentName = (typeof AGENTS)[number];
type FrameworkName = (typeof FRAMEWORKS)[number];

type Action =
  | {
      readonly do: 'launch';
      readonly pick: number;
      readonly task: string;
      readonly stops: boolean;
      readonly kind: 'alone' | 'of executor' | 'group';
    }
  | { readonly do: 'executor ends'; readonly agent: AgentName; readonly pick: number }
  | { readonly do: 'shutdown'; readonly framework: FrameworkName; readonly pick: number }
  | {
      readonly do: 'resize';
      readonly pick: number;
      readonly resources: Resources;
    }
  | { readonly do: 'agent registers'; readonly agent: AgentName }
  | { readonly do: 'agent reads'; readonly agent: AgentName; readonly count: number }
  | { readonly do: 'agent leaves'; readonly agent: AgentName }
  | {
      readonly do: 'task goes';
      readonly agent: AgentName;
      readonly pick: number;
      readonly to: TaskState;
    }
  | { readonly do: 'framework registers'; readonly framework: FrameworkName }
  | { readonly do: 'framework reads'; readonly framework: FrameworkName; readonly count: number }
  | {
      readonly do: 'framework says';
      readonly framework: FrameworkName;
      readonly what: FrameworkWord;
    }
  | { readonly do: 'kill' | 'reconcile'; readonly framework: FrameworkName; readonly task: string }
  | { readonly do: 'silence' | 'overflow'; readonly client: string }
  | { readonly do: 'gone'; readonly agent: AgentName }
  | { readonly do: 'wait'; readonly ms: number }
  /** Records of executors that cannot be read are data that is lost. */
  | { readonly do: 'fail over' | 'lose data' | 'lose executors' };
type FrameworkWord =
  'DetachFramework' | 'UnregisterFramework' | 'DeactivateFramework' | 'ReviveOffers';

const agent = fc.constantFrom(...AGENTS);
const framework = fc.constantFrom(...FRAMEWORKS);
const pick = fc.nat(100);
const count = fc.integer({ min: 1, max: 5 });
const task = fc.constantFrom('t1', 't2', 't3');
const just = <T extends string>(value: T): fc.Arbitrary<T> => fc.constant(value);

const anyAction: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: just('launch'),
      pick,
      task,
      stops: fc.boolean(),
      kind: fc.constantFrom('alone' as const, 'of executor' as const, 'group' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: just('executor ends'), agent, pick }) },
  fc.record({ do: just('shutdown'), framework, pick }),
  {
    weight: 3,
    arbitrary: fc.record({
      do: just('resize'),
      pick,
      resources: fc.constantFrom(amount(0.5, 64), amount(2, 256), amount(3, 64)),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: just('agent registers'), agent }) },
  { weight: 8, arbitrary: fc.record({ do: just('agent reads'), agent, count }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: just('task goes'),
      agent,
      pick,
      to: fc.constantFrom<TaskState[]>(
        'TASK_RUNNING',
        'TASK_RUNNING',
        'TASK_FINISHED',
        'TASK_FAILED',
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: just('framework registers'), framework }) },
  { weight: 8, arbitrary: fc.record({ do: just('framework reads'), framework, count }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: just('framework says'),
      framework,
      what: fc.constantFrom<FrameworkWord[]>(
        'DetachFramework',
        'UnregisterFramework',
        'DeactivateFramework',
        'ReviveOffers',
        'ReviveOffers',
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('kill' as const, 'reconcile' as const),
      framework,
      task,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('silence' as const, 'silence' as const, 'overflow' as const),
      client: fc.constantFrom('agent:a1', 'agent:a2', 'agent:a3', 'framework:f1', 'framework:f2'),
    }),
  },
  fc.record({ do: just('gone'), agent }),
  fc.record({ do: just('agent leaves'), agent }),
  {
    weight: 3,
    arbitrary: fc.record({
      do: just('wait'),
      ms: fc.constantFrom(1, 1000, 6000, 20_000, 35_000, 80_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'fail over' as const,
        'fail over' as const,
        'lose data' as const,
        'lose executors' as const,
      ),
    }),
  },
);

function launchOnOffer(world: World, action: Action & { do: 'launch' }): void {
  const offers = [...world.state.offers.values()];
  const offer = offers[action.pick % Math.max(1, offers.length)];
  if (!offer) return;
  const { frameworkId, offerId } = offer;
  sayAs(world, frameworkId, {
    type: 'LaunchTasks',
    frameworkId,
    offerIds: [offerId],
    tasks: tasksOf(action),
    filters: { refuseMs: 0 },
  });
}

/** Of an executor that is stopped with its tasks, or of one that is not; a group has a second task. */
function tasksOf({ task: taskId, stops, kind }: Action & { do: 'launch' }): TaskInfo[] {
  const whenUnreachable = stops ? { stopAfterMs: 15_000 } : ('keep' as const);
  if (kind === 'alone') return [taskInfo(taskId, { whenUnreachable })];
  const executor = executorInfo(stops ? 'e-stops' : 'e-stays', { whenUnreachable });
  const first = executorTask(taskId, executor, { whenUnreachable });
  if (kind === 'of executor') return [first];
  const groupId = `group-of-${taskId}` as TaskGroupId;
  const second = { ...first, taskId: taskIdOf(`${taskId}-too`) };
  return [first, second].map((each) => ({ ...each, groupId }));
}

/** What a scheduler says in the session that it believes to have. */
function sayAs(world: World, name: string, message: Message): void {
  const scheduler = world.schedulers.get(name);
  if (scheduler) say(world, `framework:${name}`, scheduler.session, message);
}

function readUpdates(world: World, name: string, howMany: number): void {
  const frameworkId = frameworkIdOf(name);
  for (const { taskId, updateId } of world.schedulers.get(name)?.inbox.splice(0, howMany) ?? []) {
    if (updateId === undefined) continue;
    const type = 'StatusUpdateAcknowledgement';
    sayAs(world, name, { type, frameworkId, taskId, updateId });
  }
}

function actOfNode(world: World, action: Extract<Action, { agent: AgentName }>): void {
  const { agent: name } = action;
  const node = world.nodes.get(name);
  const agentId = agentIdOf(name);
  if (!node) return;
  switch (action.do) {
    case 'agent registers':
      registerNode(world, node);
      return;
    case 'agent reads':
      read(world, node, action.count);
      return;
    case 'agent leaves':
      if (!node.isRegistered) return;
      say(world, `agent:${name}`, node.session, { type: 'UnregisterAgent', agentId });
      node.isRegistered = false;
      node.hasLeft = true;
      return;
    case 'task goes': {
      const live = [...node.launches].filter(([, { state }]) => !isTerminal(state));
      const [launchId] = live[action.pick % Math.max(1, live.length)] ?? [];
      if (launchId !== undefined) become(world, node, launchId, action.to);
      return;
    }
    case 'executor ends': {
      const alive = [...node.executors].filter(([, { isAlive }]) => isAlive);
      const [launchId] = alive[action.pick % Math.max(1, alive.length)] ?? [];
      if (launchId !== undefined) endExecutor(world, node, launchId, 'TASK_LOST');
      return;
    }
    case 'gone':
      say(world, 'operator:ann', 's1', { type: 'MarkAgentGone', agentId });
      return;
    default:
      action satisfies never;
  }
}

/** Of a task that runs, if there is one. */
function resize(world: World, { pick: index, resources }: Action & { do: 'resize' }): void {
  const tasks = [...world.state.tasks.values()].filter(({ state }) => !isTerminal(state));
  const running = tasks.filter(({ state }) => state === 'TASK_RUNNING');
  const candidates = running.length > 0 ? running : tasks;
  const wanted = candidates[index % Math.max(1, candidates.length)];
  if (!wanted) return;
  const { frameworkId, taskId } = wanted;
  const resizeId = sessionOf(`wish-${String(++world.sessions)}`);
  sayAs(world, frameworkId, { type: 'ResizeTask', resizeId, frameworkId, taskId, resources });
}

function shutDown(world: World, action: Action & { do: 'shutdown' }): void {
  const frameworkId = frameworkIdOf(action.framework);
  const own = [...world.state.executors.values()].filter(
    (executor) => executor.frameworkId === frameworkId,
  );
  const executor = own[action.pick % Math.max(1, own.length)];
  if (!executor) return;
  const { agentId, info, launchId } = executor;
  world.unwanted.add(launchId);
  const executorId = executorIdOf(info.executorId);
  sayAs(world, action.framework, { type: 'ShutdownExecutor', frameworkId, agentId, executorId });
}

function act(world: World, action: Action): void {
  if ('agent' in action) {
    actOfNode(world, action);
    return;
  }
  switch (action.do) {
    case 'launch':
      launchOnOffer(world, action);
      return;
    case 'framework registers':
      registerScheduler(world, action.framework);
      return;
    case 'framework reads':
      readUpdates(world, action.framework, action.count);
      return;
    case 'framework says': {
      const frameworkId = frameworkIdOf(action.framework);
      sayAs(world, action.framework, { type: action.what, frameworkId });
      return;
    }
    case 'kill':
    case 'reconcile': {
      const frameworkId = frameworkIdOf(action.framework);
      const taskId = taskIdOf(action.task);
      const message: Message =
        action.do === 'kill'
          ? { type: 'KillTask', frameworkId, taskId, by: 'framework' }
          : { type: 'ReconcileTasks', frameworkId, taskIds: [taskId] };
      sayAs(world, action.framework, message);
      return;
    }
    case 'shutdown':
      shutDown(world, action);
      return;
    case 'resize':
      resize(world, action);
      return;
    case 'silence': {
      const { agentTimeoutMs } = world.state.options;
      const clients = [{ client: action.client, seenMs: world.nowMs - agentTimeoutMs }];
      feed(world, { type: 'clients.silent', clients });
      return;
    }
    case 'overflow':
      feed(world, { type: 'clients.overflowing', clients: [action.client] });
      return;
    case 'wait':
      pass(world, action.ms);
      return;
    case 'fail over':
      takeOver(world);
      return;
    case 'lose executors':
      for (const key of [...world.stored.keys()]) {
        if (key.startsWith('executors ')) world.stored.delete(key);
      }
      takeOver(world);
      feed(world, { type: 'data.lost', lostBefore: world.sessions });
      return;
    case 'lose data':
      takeOver(world);
      feed(world, { type: 'data.lost', lostBefore: world.sessions });
      return;
    default:
      action satisfies never;
  }
}

test('what is said of one launch has one end, no launch is started twice or stopped without a word', () => {
  fc.assert(
    fc.property(fc.array(anyAction, { minLength: 20, maxLength: 150, size: 'max' }), (actions) => {
      const world = createWorld(AGENTS, FRAMEWORKS);
      for (const action of actions) {
        act(world, action);
        perform(world, offerResources(world.state, world.nowMs));
        assertInvariants(world.state);
        store(world);
      }
      assertSettled(world);
    }),
    { numRuns: 20000 },
  );
});

test('zz', () => { console.log([...counts].sort().map(([k, v]) => k + ' ' + v).join('\n')); });
