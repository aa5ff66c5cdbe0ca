/**
 * What must hold of a master's state after every step, whatever it was told. The sums beside the records are computed
 * again from the records, so a forgotten addition shows at the step that forgot it.
 */
import assert from 'node:assert/strict';
import type { Agent, Framework, MasterState } from '../../master/core/state.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, fits, sumResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';

type Kind = 'agentId' | 'frameworkId';

/**
 * @param overCommitted agents that may use more than they have: they have shrunk, or came with tasks of their own
 * @throws AssertionError that names the agent, framework or task
 */
export function assertInvariants(
  state: MasterState,
  overCommitted: ReadonlySet<string> = new Set(),
): void {
  for (const [agentId, agent] of state.agents) assertHolder(state, 'agentId', agentId, agent);
  for (const [frameworkId, framework] of state.frameworks) {
    assertHolder(state, 'frameworkId', frameworkId, framework);
  }
  assertTotal(state);
  assertReferences(state);
  for (const [agentId, { record, used, offered }] of state.agents) {
    if (overCommitted.has(agentId)) continue;
    const { resources } = record.info;
    const taken = addResources(used, offered);
    assert.ok(
      fits(taken, resources),
      `${agentId} has ${text(resources)}, given out ${text(taken)}`,
    );
  }
}

function assertHolder(state: MasterState, kind: Kind, id: string, holder: Agent | Framework): void {
  const tasks = [...state.tasks].filter(([, task]) => task[kind] === id);
  const running = tasks.filter(([, task]) => !isTerminal(task.state));
  const executors = [...state.executors].filter(([, executor]) => executor[kind] === id);
  const offers = [...state.offers.values()].filter((offer) => offer[kind] === id);
  assert.deepEqual(
    {
      used: holder.used,
      offered: holder.offered,
      executors: [...holder.executors].sort(),
      tasks: [...holder.tasks].sort(),
      offers: [...holder.offers].sort(),
    },
    {
      used: sumResources([
        ...running.map(([, task]) => largerOf(task.resources, task.resize?.resources)),
        ...executors.map(([, { info }]) => info.resources),
      ]),
      offered: sumResources(offers.map((offer) => offer.resources)),
      executors: executors.map(([path]) => path).sort(),
      tasks: tasks.map(([key]) => key).sort(),
      offers: offers.map((offer) => offer.offerId).sort(),
    },
    `derived values of ${kind} ${id}`,
  );
}

/** Of a task that is being resized either may be in force. */
function largerOf(a: Resources, b: Resources = a): Resources {
  return {
    cpuMillis: Math.max(a.cpuMillis, b.cpuMillis),
    memMib: Math.max(a.memMib, b.memMib),
  };
}

function assertTotal(state: MasterState): void {
  const active = [...state.agents.values()].filter(({ record }) => record.state === 'active');
  assert.deepEqual(
    state.total,
    sumResources(active.map(({ record }) => record.info.resources)),
    'total of the active agents',
  );
}

function assertReferences(state: MasterState): void {
  for (const { offerId, agentId, frameworkId, resources } of state.offers.values()) {
    assert.equal(state.agents.get(agentId)?.record.state, 'active', `${offerId}: its agent`);
    assert.equal(
      state.frameworks.get(frameworkId)?.record.state,
      'active',
      `${offerId}: its framework`,
    );
    assert.ok(resources.cpuMillis >= 0 && resources.memMib >= 0, `${offerId}: ${text(resources)}`);
  }
  for (const [key, task] of state.tasks) {
    const done = isTerminal(task.state) && task.unacknowledged.length === 0;
    assert.ok(!done, `${key} has ended, is acknowledged, and is not forgotten`);
    const isOrphan = !state.agents.has(task.agentId) || !state.frameworks.has(task.frameworkId);
    assert.equal(state.orphans.has(key), isOrphan, `${key}: its place among the orphans`);
    assert.ok(task.info?.executor === undefined, `${key}: its executor has a record of its own`);
    assert.ok(!isTerminal(task.state) || !task.resize, `${key} has ended, and is being resized`);
  }
  assertExecutors(state);
  for (const [agentId, { record }] of state.agents) {
    // An active one may be without: it is to register again.
    const isSound = record.session === undefined || record.state === 'active';
    assert.ok(isSound, `${agentId}: session and state`);
  }
  for (const [frameworkId, { record }] of state.frameworks) {
    const isSound = record.session === undefined || record.state === 'active';
    assert.ok(isSound, `${frameworkId}: session and state`);
  }
}

function assertExecutors({ agents, frameworks, executors, orphanExecutors }: MasterState): void {
  for (const [path, { agentId, frameworkId, info }] of executors) {
    assert.equal(path, `${agentId}/${frameworkId}/${info.executorId}`, 'where an executor stands');
    const isOrphan = !agents.has(agentId) || !frameworks.has(frameworkId);
    assert.equal(orphanExecutors.has(path), isOrphan, `${path}: its place among the orphans`);
    assert.notEqual(agents.get(agentId)?.record.state, 'gone', `${path}: its agent`);
  }
  for (const path of orphanExecutors) assert.ok(executors.has(path), `${path}: an orphan is there`);
}

function text({ cpuMillis, memMib }: Resources): string {
  return `${String(cpuMillis)} mcpu ${String(memMib)} MiB`;
}
