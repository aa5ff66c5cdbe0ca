/**
 * What an operator says of a role: its weight and its quota. It is refused where it could not hold, and says so in the event
 * log, where `reason` is the id of the wish.
 */
import type { MessageOf } from '../../protocol/messages.ts';
import type { OfferRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import {
  addResources,
  fits,
  formatResources,
  largerOf,
  NO_RESOURCES,
  subtractResources,
  sumResources,
} from '../../protocol/resources.ts';
import type { PartialResources, RoleRecord } from '../../protocol/roles.ts';
import {
  formatPartial,
  fromPartial,
  isBeyond,
  parentRole,
  rolePath,
} from '../../protocol/roles.ts';
import type { StepContext } from './effects.ts';
import { appendEvent } from './effects.ts';
import { rescindOffer } from './offers.ts';
import { setRole } from './role-books.ts';
import type { MasterState } from './state.ts';

/** Replaces what the wish names, or refuses all of it. */
export function updateRole(cx: StepContext, wish: MessageOf<'UpdateRole'>): void {
  const { role, requestId, force } = wish;
  const record = recordOf(cx.state.roles.get(role)?.record, wish);
  const problem = problemOfRole(record) ?? (force ? undefined : problemOfFit(cx.state, record));
  if (problem !== undefined) {
    appendEvent(cx, { type: 'role.refused', role, reason: requestId, message: problem });
    return;
  }
  setRole(cx.state, record);
  if (isOverLimit(cx.state, record)) {
    for (const offer of offersUnder(cx.state, role)) {
      rescindOffer(
        cx,
        offer,
        `role ${role} has a limit of ${formatPartial(record.limit ?? {})} now`,
      );
    }
  }
  const { weight, guarantee, limit } = record;
  const said = [
    ...(weight === undefined ? [] : [`weight ${String(weight)}`]),
    ...(guarantee ? [`guarantee ${formatPartial(guarantee)}`] : []),
    ...(limit ? [`limit ${formatPartial(limit)}`] : []),
  ];
  const message = said.length === 0 ? 'no weight and no quota' : said.join(', ');
  appendEvent(cx, { type: 'role.updated', role, reason: requestId, message });
}

function recordOf(before: RoleRecord | undefined, wish: MessageOf<'UpdateRole'>): RoleRecord {
  const { role } = wish;
  const pick = <T>(wished: T | null | undefined, had: T | undefined): T | undefined =>
    wished === undefined ? had : (wished ?? undefined);
  const weight = pick(wish.weight, before?.weight);
  const guarantee = pick(wish.guarantee, before?.guarantee);
  const limit = pick(wish.limit, before?.limit);
  return {
    role,
    ...(weight !== undefined && { weight }),
    ...(guarantee && { guarantee }),
    ...(limit && { limit }),
  };
}

function problemOfRole({ role, guarantee = {}, limit = {} }: RoleRecord): string | undefined {
  if (!isBeyond(fromPartial(guarantee), limit)) return undefined;
  return `role ${role}: its guarantee of ${formatPartial(guarantee)} is beyond its limit of ${formatPartial(limit)}`;
}

function isOverLimit({ roles }: MasterState, { role, limit }: RoleRecord): boolean {
  const holds = roles.get(role)?.holds ?? NO_RESOURCES;
  return limit !== undefined && isBeyond(holds, limit);
}

/** Outstanding offers under a role and those below it. */
function offersUnder({ offers }: MasterState, role: string): OfferRecord[] {
  return [...offers.values()].filter((offer) => rolePath(offer.role).includes(role));
}

/** What is true of the cluster as it is, and may be said all the same. */
function problemOfFit(state: MasterState, record: RoleRecord): string | undefined {
  const { role, limit } = record;
  const offered = sumResources(offersUnder(state, role).map(({ resources }) => resources));
  const used = subtractResources(state.roles.get(role)?.holds ?? NO_RESOURCES, offered);
  if (limit && isBeyond(used, limit)) {
    return `role ${role} uses ${formatResources(used)} already, more than a limit of ${formatPartial(limit)}; nothing of it would be stopped (force says so all the same)`;
  }
  if (!record.guarantee) return undefined;
  const promised = promisedWith(state, record);
  if (fits(promised, state.total)) return undefined;
  return `all guarantees together would be ${formatResources(promised)}, and the cluster has ${formatResources(state.total)} (force says so all the same)`;
}

/** Sum over the roles at the top: of each the larger of its own guarantee and those of the roles below it together. */
function promisedWith(state: MasterState, record: RoleRecord): Resources {
  const guarantees = new Map<string, PartialResources>();
  for (const { role, record: known } of state.roles.values()) {
    if (known?.guarantee) guarantees.set(role, known.guarantee);
  }
  if (record.guarantee) guarantees.set(record.role, record.guarantee);
  const below = new Map<string | undefined, Resources>();
  // The deepest first: a role comes after all that are below it.
  const depth = (role: string): number => role.split('/').length;
  const named = new Set([...guarantees.keys()].flatMap((role) => rolePath(role)));
  for (const role of [...named].sort((a, b) => depth(b) - depth(a))) {
    const own = fromPartial(guarantees.get(role) ?? {});
    const promised = largerOf(own, below.get(role) ?? NO_RESOURCES);
    const parent = parentRole(role);
    below.set(parent, addResources(below.get(parent) ?? NO_RESOURCES, promised));
  }
  return below.get(undefined) ?? NO_RESOURCES;
}
