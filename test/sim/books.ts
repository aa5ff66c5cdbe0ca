/** The leader's own sums against its own records: the one check that looks inside a core. */
import type { Agent, Framework, MasterState } from '../../master/core/state.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, NO_RESOURCES, sumResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { countedOf } from './host-book.ts';
import { Violation } from './violation.ts';

/** @throws Violation if a sum that the allocator relies on is not that of the records */
export function checkBooks(state: MasterState): void {
  const use = newSums();
  for (const task of state.tasks.values()) {
    if (!isTerminal(task.state)) addTo(use, [task.agentId, task.frameworkId], countedOf(task));
  }
  for (const { agentId, frameworkId, info } of state.executors.values()) {
    addTo(use, [agentId, frameworkId], info.resources);
  }
  const offered = newSums();
  for (const offer of state.offers.values()) {
    addTo(offered, [offer.agentId, offer.frameworkId], offer.resources);
  }
  const compare = (id: string, holder: Agent | Framework): void => {
    compareSum(`${id} uses`, holder.used, use.get(id));
    compareSum(`${id} is offered`, holder.offered, offered.get(id));
  };
  for (const [id, agent] of state.agents) compare(id, agent);
  for (const [id, framework] of state.frameworks) compare(id, framework);
  const active = [...state.agents.values()].filter(({ record }) => record.state === 'active');
  compareSum(
    'the total',
    state.total,
    sumResources(active.map(({ record }) => record.info.resources)),
  );
}

function newSums(): Map<string, Resources> {
  return new Map();
}

function addTo(sums: Map<string, Resources>, ids: readonly string[], resources: Resources): void {
  for (const id of ids) sums.set(id, addResources(sums.get(id) ?? NO_RESOURCES, resources));
}

function compareSum(what: string, kept: Resources, counted: Resources = NO_RESOURCES): void {
  if (kept.cpuMillis === counted.cpuMillis && kept.memMib === counted.memMib) return;
  const [inBooks, inRecords] = [kept, counted].map(
    ({ cpuMillis, memMib }) => `${cpuMillis} millis ${memMib} MiB`,
  );
  throw new Violation(
    `the leader's books are wrong: ${what} ${inBooks}, its records say ${inRecords}`,
  );
}
