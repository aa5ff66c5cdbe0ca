/**
 * Preemption, where the operator has asked for it (`preemptAfterMs`): tasks are ended so that what has waited too long can
 * run. Two things go before a task:
 *
 *   priority    a need of a higher priority, below the same role at the top of the tree
 *   guarantee   a need of a role that holds less than it has been promised, where the task's own roles keep their promises
 *
 * On the agent where it costs least (the lowest priorities, then the fewest tasks, the newest first) as many are killed as one
 * unit needs, each with its own grace period and the reason REASON_PREEMPTED; nobody else is offered that agent until the
 * framework that waited has been. Whether it would be offered it then is asked of the allocator before anything is killed.
 * For one framework one agent at a time is made free: what is killed in vain stays small.
 */
import type { AgentId } from '../../protocol/ids.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  fits,
  formatResources,
  NO_RESOURCES,
  subtractResources,
  sumResources,
} from '../../protocol/resources.ts';
import { fromPartial, isBeyond, ROLE_DEFAULT, rolePath } from '../../protocol/roles.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { PRIORITY_DEFAULT, rolesOf } from '../../protocol/task.ts';
import { endPreemption } from './allocation.ts';
import type { NeedView } from './allocator/port.ts';
import { hasAttributes } from './allocator/needs.ts';
import { needsUnder } from './demand.ts';
import type { StepContext } from './effects.ts';
import { appendEvent } from './effects.ts';
import type { Agent, Framework, MasterState } from './state.ts';
import { poolsOf } from './pools.ts';
import { findTask, freeOf, rulesOf } from './state.ts';
import { wouldGrant } from './suppose.ts';
import { requestKill } from './tasks.ts';
import { withheldBy } from './withheld.ts';

/** How long more than the longest grace period the victims may take to be gone, and the offer to be made. */
const PATIENCE_MS = 60_000;

/** To be called with every tick; cost: with preemption, frameworks and what they ask for. */
export function stepPreemption(cx: StepContext): void {
  const { options, frameworks, preemptions } = cx.state;
  const { preemptAfterMs } = options;
  // Also when the setting was taken back: what was begun must not keep an agent from everybody else for ever.
  endPreemptions(cx);
  if (preemptAfterMs === undefined) return;
  const busy = new Set([...preemptions.values()].map(({ frameworkId }) => frameworkId));
  for (const framework of frameworks.values()) {
    const needs = waitingNeeds(cx, framework);
    const isWaiting = needs.length > 0 && framework.offers.size === 0;
    framework.waitingSinceMs = isWaiting ? (framework.waitingSinceMs ?? cx.nowMs) : undefined;
    const { waitingSinceMs } = framework;
    if (waitingSinceMs === undefined || cx.nowMs - waitingSinceMs < preemptAfterMs) continue;
    if (!busy.has(framework.record.info.frameworkId)) preemptFor(cx, framework, needs);
  }
}

/** What was waited for long enough, or is not wanted any more. */
function endPreemptions({ state, nowMs }: StepContext): void {
  for (const [agentId, { frameworkId, role, untilMs }] of state.preemptions) {
    const framework = state.frameworks.get(frameworkId);
    const wants = framework && needsUnder(state, framework, role)?.length !== 0;
    if (wants && nowMs < untilMs) continue;
    // It has waited in vain; other tasks do not follow these at once.
    if (framework) framework.waitingSinceMs = undefined;
    endPreemption(state, agentId);
  }
}

interface Waiting {
  readonly role: string;
  readonly need: NeedView;
  readonly priority: number;
}

/** Highest priority first. */
function waitingNeeds({ state }: StepContext, framework: Framework): Waiting[] {
  const { info, state: known, session, demand, suppressed, suppressedRoles } = framework.record;
  if (known !== 'active' || session === undefined || !demand || suppressed) return [];
  const waiting = rolesOf(info).flatMap((role) => {
    if (suppressedRoles.includes(role)) return [];
    return (needsUnder(state, framework, role) ?? []).map((need) => ({
      ...{ role, need },
      priority: need.priority ?? PRIORITY_DEFAULT,
    }));
  });
  return waiting.sort((a, b) => b.priority - a.priority);
}

/** Tasks of one agent that are to end. */
interface Plan {
  readonly agent: Agent;
  readonly victims: readonly TaskRecord[];
}

function preemptFor(cx: StepContext, framework: Framework, needs: readonly Waiting[]): void {
  for (const waiting of needs) {
    const plan = cheapestPlan(cx, framework, waiting);
    if (!plan) continue;
    carryOut(cx, framework, waiting, plan);
    return;
  }
}

function cheapestPlan(cx: StepContext, framework: Framework, waiting: Waiting): Plan | undefined {
  const plans = cx.state.agentOrder.flatMap((agentId) => planOn(cx, agentId, waiting) ?? []);
  return plans
    .sort((a, b) => compareCosts(a.victims, b.victims))
    .find(({ agent, victims }) => isWorthIt(cx, framework, waiting, { agent, victims }));
}

/** Lowest priorities first, then the fewest tasks. */
function compareCosts(a: readonly TaskRecord[], b: readonly TaskRecord[]): number {
  const highest = (victims: readonly TaskRecord[]): number =>
    Math.max(...victims.map(priorityOfTask));
  return highest(a) - highest(b) || a.length - b.length;
}

function priorityOfTask(task: TaskRecord): number {
  return rulesOf(task).priority ?? PRIORITY_DEFAULT;
}

/** The fewest that make room for one unit, or nothing if all that may be ended are not enough. */
function planOn(cx: StepContext, agentId: AgentId, waiting: Waiting): Plan | undefined {
  const { state } = cx;
  const { resources } = waiting.need;
  const agent = state.agents.get(agentId);
  if (!agent || !couldHold(cx, agent, waiting.need)) return undefined;
  const possible = possibleVictims(state, agent, waiting);
  const isEnough = (victims: readonly TaskRecord[]): boolean =>
    fits(resources, addResources(openOn(agent), sumResources(victims.map(openPart)))) &&
    isBelowLimits(state, waiting, givenBy(victims));
  let victims: TaskRecord[] = [];
  for (const task of possible) {
    if (isEnough(victims)) break;
    victims.push(task);
  }
  if (victims.length === 0 || !isEnough(victims)) return undefined;
  // What was taken first may not be needed beside what was taken last.
  for (const task of [...victims]) {
    const others = victims.filter((other) => other !== task);
    if (isEnough(others)) victims = others;
  }
  return { agent, victims };
}

/** Whether a unit could be there, if nothing else were. */
function couldHold(
  { state, nowMs }: StepContext,
  agent: Agent,
  { resources, attributes }: NeedView,
): boolean {
  const { info } = agent.record;
  if (withheldBy(state, agent, nowMs) !== undefined) return false;
  if (state.preemptions.has(info.agentId)) return false;
  return hasAttributes(info.attributes, attributes) && fits(resources, info.resources);
}

/** Free on it, and not reserved: what is reserved and was used by a task goes back to whom it is reserved for. */
function openOn(agent: Agent): Resources {
  return poolsOf(agent).find(({ reservation }) => !reservation)?.free ?? freeOf(agent);
}

/** What a task has that is not reserved. */
function openPart({ resources, reserved = [] }: TaskRecord): Resources {
  return subtractResources(resources, sumResources(reserved.map((part) => part.resources)));
}

/** Whether the roles of a need may hold one more unit, if tasks have ended. */
function isBelowLimits(
  { roles }: MasterState,
  { role, need: { resources } }: Waiting,
  given: ReadonlyMap<string, Resources>,
): boolean {
  return rolePath(role).every((name) => {
    const { record, holds } = roles.get(name) ?? {};
    if (!record?.limit || !holds) return true;
    const less = subtractResources(holds, given.get(name) ?? NO_RESOURCES);
    return !isBeyond(addResources(less, resources), record.limit, resources);
  });
}

/** By role, what it and the roles below it hold less when tasks have ended. */
function givenBy(tasks: readonly TaskRecord[]): Map<string, Resources> {
  const given = new Map<string, Resources>();
  for (const task of tasks) {
    for (const name of rolePath(task.role ?? ROLE_DEFAULT)) {
      given.set(name, addResources(given.get(name) ?? NO_RESOURCES, task.resources));
    }
  }
  return given;
}

/** In the order in which they go: lowest priority, then newest. Guarantees are counted down with each that is taken. */
function possibleVictims(
  state: MasterState,
  agent: Agent,
  waiting: Waiting,
): readonly TaskRecord[] {
  const tasks = [...agent.tasks]
    .flatMap((key) => state.tasks.get(key) ?? [])
    .filter((task) => !isTerminal(task.state) && task.killRequested === undefined && !task.unheard)
    .sort(
      (a, b) =>
        priorityOfTask(a) - priorityOfTask(b) ||
        b.launchedAtMs - a.launchedAtMs ||
        (a.launchId < b.launchId ? 1 : -1),
    );
  const taken = new Map<string, Resources>();
  const owed = owedRole(state, waiting);
  return tasks.filter((task) => {
    const role = task.role ?? ROLE_DEFAULT;
    const isLower =
      rolePath(role)[0] === rolePath(waiting.role)[0] && priorityOfTask(task) < waiting.priority;
    const isBeyondPromise =
      owed !== undefined &&
      !rolePath(role).includes(owed) &&
      keepsPromises(state, role, addResources(taken.get(role) ?? NO_RESOURCES, task.resources));
    if (!isLower && !isBeyondPromise) return false;
    taken.set(role, addResources(taken.get(role) ?? NO_RESOURCES, task.resources));
    return true;
  });
}

/** The role of a need's path that has been promised one more unit than it holds. */
function owedRole({ roles }: MasterState, { role, need }: Waiting): string | undefined {
  return rolePath(role).find((name) => {
    const { record, holds } = roles.get(name) ?? {};
    if (!record?.guarantee || !holds) return false;
    const owed = subtractResources(fromPartial(record.guarantee), holds);
    const named = { ...need.resources };
    // Of what it does not name there is no promise.
    if (record.guarantee.cpuMillis === undefined) named.cpuMillis = owed.cpuMillis;
    if (record.guarantee.memMib === undefined) named.memMib = owed.memMib;
    return fits(named, owed);
  });
}

function keepsPromises({ roles }: MasterState, role: string, less: Resources): boolean {
  return rolePath(role).every((name) => {
    const { record, holds } = roles.get(name) ?? {};
    if (!record?.guarantee || !holds) return true;
    return fits(fromPartial(record.guarantee), subtractResources(holds, less));
  });
}

/** Asks the allocator: limits, the guarantees of others and what the framework has declined may all stand in the way. */
function isWorthIt(
  cx: StepContext,
  framework: Framework,
  { role, need }: Waiting,
  { agent, victims }: Plan,
): boolean {
  const freed = sumResources(victims.map(openPart));
  const free = openOn(agent);
  const given = givenBy(victims);
  return wouldGrant(cx, { framework, role, need, agent, free, freed, given });
}

function carryOut(
  cx: StepContext,
  framework: Framework,
  { role, need, priority }: Waiting,
  { agent, victims }: Plan,
): void {
  const { frameworkId, name } = framework.record.info;
  const { agentId } = agent.record.info;
  const graceMs = Math.max(...victims.map((task) => rulesOf(task).killGracePeriodMs ?? 0));
  cx.state.preemptions.set(agentId, {
    ...{ frameworkId, role },
    untilMs: cx.nowMs + graceMs + PATIENCE_MS,
  });
  const what = `${formatResources(need.resources)} for ${name} under role ${role}`;
  const message = `${what}, priority ${String(priority)}, have waited long enough`;
  appendEvent(cx, { type: 'agent.preempted', agentId, frameworkId, message });
  for (const { frameworkId: owner, taskId } of victims) {
    const task = findTask(cx.state, owner, taskId);
    if (task) requestKill(cx, task, { by: 'preemption', message });
  }
}
