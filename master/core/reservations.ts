/**
 * What an operator reserves of an agent for a role, and gives back. Offers go where room is needed; what tasks use is never
 * taken away, so a wish that would need it is refused, and says so in the event log, where `reason` is the id of the wish.
 */
import type { AgentId, ReservationId, SessionId } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import type { Reservation } from '../../protocol/reservations.ts';
import { isReservedFor, RESERVATIONS_MAX, reservationsOf } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import { fits, formatResources, isEmpty, NO_RESOURCES } from '../../protocol/resources.ts';
import { setAgent } from './books.ts';
import { doomDirectory } from './directories.ts';
import type { StepContext } from './effects.ts';
import { appendEvent } from './effects.ts';
import { makeRoom } from './offers.ts';
import { poolOf } from './pools.ts';
import type { Agent, MasterState } from './state.ts';

/** Keeps as much of an agent for a role as is wished, or nothing. */
export function reserve(cx: StepContext, wish: MessageOf<'Reserve'>): void {
  const { agentId, requestId, role, resources, labels, parentId } = wish;
  const agent = cx.state.agents.get(agentId);
  const problem = agent ? problemOfReserve(agent, wish) : `no agent ${agentId}`;
  if (problem !== undefined || !agent) {
    refuse(cx, { agentId, requestId, role }, problem ?? `no agent ${agentId}`);
    return;
  }
  const reason = `it is reserved for role ${role} now`;
  makeRoom(cx, agent, { reservationId: parentId, resources, reason });
  const reservation: Reservation = {
    reservationId: nextId(cx.state, agent.record),
    ...{ role, resources, labels },
    ...(cx.principal && { principal: cx.principal.name }),
    ...(parentId !== undefined && { parentId }),
    isStatic: false,
  };
  const { reservations = [] } = agent.record;
  setAgent(cx.state, { ...agent.record, reservations: [...reservations, reservation] });
  appendEvent(cx, {
    type: 'reservation.made',
    ...{ agentId, role, resources, reason: requestId },
    message: `${formatResources(resources)} of agent ${agentId} for role ${role}: ${reservation.reservationId}`,
  });
}

/** As offers have them: no two of a cluster have the same, unless Redis has lost the first. */
function nextId(state: MasterState, { reservations = [] }: AgentRecord): ReservationId {
  for (;;) {
    const number = String(state.nextOffer++);
    const id = `r${String(state.epoch)}.${state.term}.${number}` as ReservationId;
    if (!reservations.some(({ reservationId }) => reservationId === id)) return id;
  }
}

function problemOfReserve(agent: Agent, wish: MessageOf<'Reserve'>): string | undefined {
  const { agentId, role, resources, parentId } = wish;
  const { record } = agent;
  if (record.state === 'gone') return `agent ${agentId} is gone`;
  if (isEmpty(resources)) return 'nothing is to be reserved';
  // What runs there is not known for certain until it has registered again.
  if (record.session === undefined) {
    return `agent ${agentId} is not connected: try again when it is`;
  }
  const all = reservationsOf(record);
  if (all.length >= RESERVATIONS_MAX) {
    return `agent ${agentId} has ${String(all.length)} reservations, at most ${String(RESERVATIONS_MAX)} are possible`;
  }
  const parent = all.find(({ reservationId }) => reservationId === parentId);
  if (parentId !== undefined && !parent) return `agent ${agentId} has no reservation ${parentId}`;
  if (parent && (parent.role === role || !isReservedFor(parent, role))) {
    return `reservation ${parent.reservationId} is for role ${parent.role}, and ${role} is not below that`;
  }
  return problemOfRoom(agent, parent, resources);
}

function problemOfRoom(
  agent: Agent,
  parent: Reservation | undefined,
  resources: Resources,
): string | undefined {
  const { agentId } = agent.record.info;
  const parentId = parent?.reservationId;
  const { unused = NO_RESOURCES } = poolOf(agent, parentId) ?? {};
  if (fits(resources, unused)) return undefined;
  const where = parent
    ? `reservation ${parent.reservationId} of agent ${agentId} has ${formatResources(unused)}`
    : `agent ${agentId} has ${formatResources(unused)}`;
  return `${formatResources(resources)} asked, ${where} neither used nor reserved`;
}

/** Ends a reservation that nothing is used of. */
export function unreserve(cx: StepContext, wish: MessageOf<'Unreserve'>): void {
  const { agentId, requestId, reservationId } = wish;
  const agent = cx.state.agents.get(agentId);
  const known = agent && reservationsOf(agent.record);
  const reservation = known?.find((one) => one.reservationId === reservationId);
  if (!agent || !reservation) {
    const problem = agent
      ? `agent ${agentId} has no reservation ${reservationId}`
      : `no agent ${agentId}`;
    refuse(cx, { agentId, requestId }, problem);
    return;
  }
  const { role, resources } = reservation;
  const problem = problemOfUnreserve(agent, reservation, wish.destroy === true);
  if (problem !== undefined) {
    refuse(cx, { agentId, requestId, role }, problem);
    return;
  }
  const reason = `it is not reserved for role ${role} any more`;
  // All of it, in whichever offers it is.
  makeRoom(cx, agent, { reservationId, resources, reason });
  const { reservations = [], ...rest } = agent.record;
  const left = reservations.filter((one) => one.reservationId !== reservationId);
  setAgent(cx.state, { ...rest, ...(left.length > 0 && { reservations: left }) });
  const isDoomed = doomDirectory(cx, agent, reservationId);
  const removed = isDoomed ? ', and what tasks have left in its directory is removed' : '';
  appendEvent(cx, {
    type: 'reservation.removed',
    ...{ agentId, role, resources, reason: requestId },
    message: `${formatResources(resources)} of agent ${agentId} are not reserved for role ${role} any more${removed}`,
  });
}

function problemOfUnreserve(
  agent: Agent,
  reservation: Reservation,
  destroy: boolean,
): string | undefined {
  const { reservationId, isStatic } = reservation;
  const { agentId } = agent.record.info;
  const what = `reservation ${reservationId} of agent ${agentId}`;
  if (isStatic) return `${what} is from the settings of the agent: change --reserve-for there`;
  const part = agent.record.reservations?.find(({ parentId }) => parentId === reservationId);
  if (part) return `${what} is reserved further, for role ${part.role}: ${part.reservationId}`;
  const { used = NO_RESOURCES } = agent.pools.get(reservationId) ?? {};
  if (!isEmpty(used)) return `${what} is in use: tasks have ${formatResources(used)} of it`;
  if (destroy || agent.record.directories?.includes(reservationId) !== true) return undefined;
  return `${what} has a directory with what tasks have left there: say --destroy to have it removed for good`;
}

interface Refused {
  readonly agentId: AgentId;
  readonly requestId: SessionId;
  readonly role?: string;
}

function refuse(cx: StepContext, { requestId, ...ids }: Refused, message: string): void {
  appendEvent(cx, { type: 'reservation.refused', ...ids, reason: requestId, message });
}
