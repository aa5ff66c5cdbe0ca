/**
 * What must hold of a master's state after every step, whatever it was told. The sums beside the records are computed
 * again from the records, so a forgotten addition shows at the step that forgot it.
 */
import assert from 'node:assert/strict';
import type { Pool } from '../../master/core/pools.ts';
import { hasReservations, poolsOf } from '../../master/core/pools.ts';
import type { Agent, Framework, MasterState } from '../../master/core/state.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  atLeastNothing,
  fits,
  largerOf,
  NO_RESOURCES,
  subtractResources,
  sumResources,
} from '../../protocol/resources.ts';
import { rolePath } from '../../protocol/roles.ts';
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
  assertRoles(state);
  assertReferences(state);
  for (const [agentId, agent] of state.agents) assertPools(state, agentId, agent);
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
        ...running.map(([, task]) =>
          largerOf(task.resources, task.resize?.resources ?? NO_RESOURCES),
        ),
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

/**
 * What is used and offered of each reservation, from the records of tasks, executors and offers; and that offered, used, free
 * and reserved are what the agent has, pool by pool and together.
 */
function assertPools(state: MasterState, agentId: string, agent: Agent): void {
  const sums = new Map<string, { used: Resources; offered: Resources }>();
  const add = (id: string, kind: 'used' | 'offered', part: Resources): void => {
    const sum = sums.get(id) ?? { used: NO_RESOURCES, offered: NO_RESOURCES };
    sums.set(id, { ...sum, [kind]: addResources(sum[kind], part) });
  };
  const users = [
    ...[...state.tasks.values()].filter((task) => !isTerminal(task.state)),
    ...state.executors.values(),
  ];
  for (const user of users.filter((one) => one.agentId === agentId)) {
    for (const { reservationId, resources } of user.reserved ?? []) {
      add(reservationId, 'used', resources);
    }
    const has =
      'info' in user && !('taskId' in user)
        ? user.info.resources
        : largerOf(user.resources, user.resize?.resources ?? NO_RESOURCES);
    const parts = sumResources((user.reserved ?? []).map(({ resources }) => resources));
    assert.ok(fits(parts, has), `${agentId}: parts ${text(parts)} of what has ${text(has)}`);
  }
  for (const { agentId: of, reservation, resources } of state.offers.values()) {
    if (of === agentId && reservation) add(reservation.reservationId, 'offered', resources);
  }
  assert.deepEqual(
    Object.fromEntries([...agent.pools].sort()),
    Object.fromEntries([...sums].sort()),
    `pools of ${agentId}`,
  );
  assert.equal(state.reservedAgents.has(agentId as never), hasReservations(agent.record));
  assertPoolSums(agentId, agent);
}

function assertPoolSums(agentId: string, agent: Agent): void {
  const pools = poolsOf(agent);
  const { resources } = agent.record.info;
  const sum = (of: (pool: Pool) => Resources): Resources => sumResources(pools.map(of));
  assert.deepEqual(
    [sum(({ capacity }) => capacity), sum(({ used }) => used), sum(({ offered }) => offered)],
    [resources, agent.used, agent.offered],
    `${agentId}: its pools together`,
  );
  const isOver = pools.some(({ capacity, used }) => !fits(used, capacity));
  for (const { reservation, capacity, used, offered, free } of pools) {
    const name = `${agentId} ${reservation?.reservationId ?? 'not reserved'}`;
    assert.ok(fits(offered, atLeastNothing(capacity)), `${name}: offers ${text(offered)}`);
    if (isOver) continue;
    assert.deepEqual(sumResources([used, offered, free]), capacity, `${name}: its sums`);
  }
  if (!isOver) return;
  // Some pool uses more than it has: what the others give out is then still within the agent, as far as anything is left.
  const rest = atLeastNothing(subtractResources(resources, agent.used));
  const given = sum(({ offered, free }) => addResources(offered, free));
  assert.ok(fits(given, rest), `${agentId}: gives out ${text(given)} of ${text(rest)}`);
}

function assertTotal(state: MasterState): void {
  const active = [...state.agents.values()].filter(({ record }) => record.state === 'active');
  assert.deepEqual(
    { total: state.total, taken: state.taken },
    {
      total: sumResources(active.map(({ record }) => record.info.resources)),
      taken: sumResources(active.flatMap(({ used, offered }) => [used, offered])),
    },
    'sums of the active agents',
  );
  assert.deepEqual(state.agentOrder, [...state.agents.keys()].sort(), 'order of the agents');
}

/** What each role holds, and each framework under it, from the records of tasks, executors and offers. */
function assertRoles(state: MasterState): void {
  const own = new Map<string, Resources>();
  const holds = new Map<string, Resources>();
  const shares = new Map<string, Map<string, Resources>>();
  const add = (sums: Map<string, Resources>, key: string, part: Resources): void => {
    sums.set(key, addResources(sums.get(key) ?? NO_RESOURCES, part));
  };
  const countRole = (frameworkId: string, role = '*', part: Resources): void => {
    add(own, role, part);
    for (const name of rolePath(role)) add(holds, name, part);
    const share = shares.get(frameworkId) ?? new Map<string, Resources>();
    shares.set(frameworkId, share);
    add(share, role, part);
  };
  for (const task of state.tasks.values()) {
    if (isTerminal(task.state)) continue;
    const { frameworkId, role, resources, resize } = task;
    countRole(frameworkId, role, largerOf(resources, resize?.resources ?? NO_RESOURCES));
  }
  for (const { frameworkId, role, info } of state.executors.values()) {
    countRole(frameworkId, role, info.resources);
  }
  for (const { frameworkId, role, resources } of state.offers.values()) {
    countRole(frameworkId, role, resources);
  }
  for (const [name, role] of state.roles) {
    assert.deepEqual(
      { own: role.own, holds: role.holds },
      { own: own.get(name) ?? NO_RESOURCES, holds: holds.get(name) ?? NO_RESOURCES },
      `sums of role ${name}`,
    );
  }
  for (const name of holds.keys()) assert.ok(state.roles.has(name), `role ${name} has an entry`);
  for (const [frameworkId, framework] of state.frameworks) {
    const share = [...(shares.get(frameworkId) ?? [])].filter(
      ([, part]) => part.cpuMillis !== 0 || part.memMib !== 0,
    );
    assert.deepEqual(
      Object.fromEntries(framework.shares),
      Object.fromEntries(share),
      `roles of framework ${frameworkId}`,
    );
  }
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
