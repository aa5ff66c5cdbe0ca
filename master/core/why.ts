/**
 * Why a framework has not been offered what it needs, and what would become of a need that nobody has yet: agent by agent the
 * first thing that stands in the way (`why-agent.ts`), and the quota. Reads the state, and changes nothing.
 */
import type {
  AgentReason,
  Explanation,
  NeedExplanation,
  PossibleNeed,
} from '../../protocol/explanation.ts';
import { EXPLAINED_AGENTS_MAX, EXPLAINED_NEEDS_MAX, FITS_MAX } from '../../protocol/explanation.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  atLeastNothing,
  fits,
  formatResources,
  NO_RESOURCES,
  unitsIn,
} from '../../protocol/resources.ts';
import { formatPartial, isBeyond, rolePath } from '../../protocol/roles.ts';
import { rolesOf } from '../../protocol/task.ts';
import { mostOn } from './allocator/needs.ts';
import type { NeedView } from './allocator/port.ts';
import { needsUnder } from './demand.ts';
import type { StepContext } from './effects.ts';
import type { Framework, MasterState } from './state.ts';
import { openTo } from './supply.ts';
import { roomUnder } from './suppose.ts';
import type { Case } from './why-agent.ts';
import { poolsFor, reasonOf } from './why-agent.ts';

/** @returns what is known of a framework's waiting */
export function explain(cx: StepContext, framework: Framework): Explanation {
  const { record } = framework;
  const { frameworkId, name } = record.info;
  const all = rolesOf(record.info).flatMap((role) =>
    needsOf(cx.state, framework, role).map((need) => ({ role, need })),
  );
  const some = all.slice(0, EXPLAINED_NEEDS_MAX);
  return {
    frameworkId,
    name,
    blocked: blockedBy(cx, framework),
    needs: some.map(({ role, need }) => explainOwn(cx, framework, role, need)),
    ...(all.length > some.length && { moreNeeds: all.length - some.length }),
  };
}

/** @returns what stands in the way of something that nobody has asked for */
export function explainPossible(cx: StepContext, possible: PossibleNeed): NeedExplanation {
  const { role, resources, count, attributes } = possible;
  return explainNeed(cx, { framework: undefined, role, need: { resources, count, attributes } });
}

/** Whatever there is: what keeps every offer from it. */
function blockedBy({ nowMs }: StepContext, { record, ignored }: Framework): string[] {
  const { state, session, suppressed, suppressedRoles, demand, info } = record;
  const roles = rolesOf(info).filter((role) => suppressedRoles.includes(role));
  return [
    ...(state === 'detached' ? ['it has left; its tasks go on to their end'] : []),
    ...(state !== 'detached' && session === undefined ? ['its scheduler is not connected'] : []),
    ...(suppressed ? ['it has suppressed offers: it wants none until it revives them'] : []),
    ...(roles.length > 0 && !suppressed
      ? [`it has suppressed offers for ${roles.join(', ')}`]
      : []),
    ...(ignored && ignored.untilMs > nowMs
      ? [
          `it has let offers run out: it is asked again in ${formatDuration(ignored.untilMs - nowMs)}, or when it answers or asks for anything`,
        ]
      : []),
    ...(demand?.length === 0 ? ['it has said that it needs nothing'] : []),
  ];
}

/** Of a framework that takes anything: the least that would be offered. */
function needsOf(state: MasterState, framework: Framework, role: string): readonly NeedView[] {
  const anything = { resources: state.options.minimumOffer, count: 1, attributes: {} };
  return needsUnder(state, framework, role) ?? [anything];
}

function explainOwn(
  cx: StepContext,
  framework: Framework,
  role: string,
  need: NeedView,
): NeedExplanation {
  const explained = explainNeed(cx, { framework, role, need });
  if (framework.record.demand !== undefined) return explained;
  // It takes anything: the unit was made up here.
  const { resources: _resources, fits: _fits, ...rest } = explained;
  return rest;
}

/** A need, and whose it is. */
interface Needed {
  readonly framework: Framework | undefined;
  readonly role: string;
  readonly need: NeedView;
}

/** Of one need, agent by agent. */
function explainNeed(cx: StepContext, { framework, role, need }: Needed): NeedExplanation {
  const counts: Record<string, number> = {};
  const agents: AgentReason[] = [];
  const units = { open: 0, reserved: 0 };
  for (const agentId of cx.state.agentOrder) {
    const agent = cx.state.agents.get(agentId);
    if (!agent || agent.record.state === 'gone') continue;
    const reason = reasonOf(cx, { framework, role, need, agent });
    counts[reason.code] = (counts[reason.code] ?? 0) + 1;
    if (reason.code === 'free') addUnits(units, { agent, role, need });
    if (agents.length < EXPLAINED_AGENTS_MAX) agents.push(reason);
  }
  const { resources, count, attributes, gang } = need;
  const room = roomUnder(cx, role);
  return {
    ...{ role, count, attributes, counts, agents, resources },
    ...(gang && { gangFits: Math.min(units.open + units.reserved, count) }),
    quota: quotaOf(cx, role, resources, room),
    fits: Math.min(FITS_MAX, units.reserved + Math.min(units.open, unitsIn(resources, room))),
  };
}

/** A unit is of one pool, and what is reserved for the role is kept from it by nobody's guarantee. */
function addUnits(
  units: { open: number; reserved: number },
  { agent, role, need }: Pick<Case, 'agent' | 'role' | 'need'>,
): void {
  let most = mostOn(need, agent.record.info.agentId);
  for (const { reservation, free } of poolsFor(agent, role)) {
    const some = Math.min(most, unitsIn(need.resources, free));
    most -= some;
    units[reservation ? 'reserved' : 'open'] += some;
  }
}

/** The limits of a role and of those above it that leave no room for one unit; or what is kept for others. */
function quotaOf(
  { state, nowMs }: StepContext,
  role: string,
  unit: Resources,
  room: Resources,
): string[] {
  const { roles } = state;
  const exhausted = rolePath(role).flatMap((name) => {
    const { record, holds } = roles.get(name) ?? {};
    const limit = record?.limit;
    if (!limit) return [];
    const held = holds ?? NO_RESOURCES;
    if (!isBeyond(addResources(held, unit), limit, unit)) return [];
    return [
      `quota of role ${name} exhausted: it holds ${formatResources(held)} of ${formatPartial(limit)}`,
    ];
  });
  if (exhausted.length > 0 || fits(unit, room)) return exhausted;
  const { free } = openTo(state, nowMs);
  if (!fits(unit, free)) return [];
  const left = formatResources(atLeastNothing(room));
  return [
    `kept for the guarantees of other roles: of ${formatResources(free)} that are free, ${left} are left for role ${role}`,
  ];
}
