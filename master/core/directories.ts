/**
 * Directories of reservations with disk: they outlive the tasks that had disk of it, are on the agent's disk until the
 * reservation is ended with its data, and are never removed because somebody has forgotten them. The agent knows which there
 * are, with all that a reservation is; so a cluster that has lost its memory has these reservations again.
 */
import type { ReservationId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import type { Reservation, ReservedPart } from '../../protocol/reservations.ts';
import { RESERVATIONS_MAX, reservationsOf, withDisk } from '../../protocol/reservations.ts';
import { formatResources } from '../../protocol/resources.ts';
import { setAgent } from './books.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, send } from './effects.ts';
import type { Agent } from './state.ts';

/** Fields of an agent's record; those that would be empty are absent. */
type Fields = Pick<AgentRecord, 'reservations' | 'directories' | 'doomed'>;

function fieldsOf({
  reservations = [],
  directories = [],
  doomed = [],
}: { readonly [K in keyof Fields]: Fields[K] | undefined }): Fields {
  return {
    ...(reservations.length > 0 && { reservations }),
    ...(directories.length > 0 && { directories }),
    ...(doomed.length > 0 && { doomed }),
  };
}

/** Replaces these fields, and leaves what is not named as it is. */
function change(cx: StepContext, { record }: Agent, changed: Fields): void {
  const { reservations, directories, doomed, ...rest } = record;
  setAgent(cx.state, { ...rest, ...fieldsOf({ reservations, directories, doomed, ...changed }) });
}

/** Notes that somebody has got disk of reservations: from now on they have directories. */
export function noteDirectories(
  cx: StepContext,
  agent: Agent,
  parts: readonly ReservedPart[] | undefined,
): void {
  const { directories = [] } = agent.record;
  const added = withDisk(parts).filter((id) => !directories.includes(id));
  if (added.length > 0) change(cx, agent, { directories: [...directories, ...added] });
}

/** @returns the reservations whose directories a launch gets: the field of its message; no field for none */
export function directoriesFor(
  agent: Agent,
  parts: readonly ReservedPart[] | undefined,
): { directories?: Reservation[] } {
  const ids = withDisk(parts);
  if (ids.length === 0) return {};
  const all = reservationsOf(agent.record);
  return { directories: all.filter(({ reservationId }) => ids.includes(reservationId)) };
}

/** @returns what a registration makes of what was known: the agent's word on what is on its disk counts */
export function reportedDirectories(
  before: Partial<AgentRecord> = {},
  { agent, directories: found = [], doomed: going = [] }: MessageOf<'RegisterAgent'>,
): Fields {
  const ids = found.map(({ reservationId }) => reservationId);
  // What is going goes, also if the cluster has forgotten who wanted that.
  const wanted = new Set([...(before.doomed ?? []), ...going]);
  const doomed = [...wanted].filter((id) => ids.includes(id));
  const known = [...(before.directories ?? []), ...ids];
  return fieldsOf({
    reservations: [
      ...(before.reservations ?? []),
      ...foundAgain({ ...before, doomed }, agent, found),
    ],
    directories: [...new Set(known)].filter((id) => !doomed.includes(id)),
    doomed,
  });
}

/** Those that the cluster has forgotten, as many as an agent may have. */
function foundAgain(
  { reservations = [], doomed = [] }: Partial<AgentRecord>,
  info: AgentRecord['info'],
  found: readonly Reservation[],
): Reservation[] {
  const known = reservationsOf({ info, reservations }).map(({ reservationId }) => reservationId);
  return found
    .filter(({ isStatic, reservationId: id }) => {
      return !isStatic && !known.includes(id) && !doomed.includes(id);
    })
    .slice(0, Math.max(0, RESERVATIONS_MAX - known.length));
}

/** Says what came of it: which reservations are there again, and to the agent which directories are to go. */
export function settleDirectories(
  cx: StepContext,
  { record }: Agent,
  before: Partial<AgentRecord> = {},
): void {
  const { agentId } = record.info;
  const known = (before.reservations ?? []).map(({ reservationId }) => reservationId);
  for (const { reservationId, role, resources } of record.reservations ?? []) {
    if (known.includes(reservationId)) continue;
    appendEvent(cx, {
      type: 'reservation.adopted',
      ...{ agentId, role, resources },
      message: `${formatResources(resources)} of agent ${agentId} for role ${role}: ${reservationId}, whose directory is there`,
    });
  }
  for (const id of record.doomed ?? []) sendRemove(cx, record, id);
}

/**
 * The directory of a reservation that has just ended is to go; the agent is told so until it has done it.
 *
 * @returns false if there is none
 */
export function doomDirectory(cx: StepContext, agent: Agent, id: ReservationId): boolean {
  const { directories = [], doomed = [] } = agent.record;
  if (!directories.includes(id)) return false;
  change(cx, agent, {
    directories: directories.filter((one) => one !== id),
    doomed: [...doomed, id],
  });
  sendRemove(cx, agent.record, id);
  return true;
}

function sendRemove(cx: StepContext, { info, session }: AgentRecord, id: ReservationId): void {
  const message = { type: 'RemoveDirectory' as const, reservationId: id };
  send(cx, agentName(info.agentId), session, message);
}

/** The agent says that a directory is gone. */
export function directoryRemoved(cx: StepContext, agent: Agent, id: ReservationId): void {
  const { doomed = [], info } = agent.record;
  if (!doomed.includes(id)) return;
  change(cx, agent, { doomed: doomed.filter((one) => one !== id) });
  const { agentId } = info;
  const message = `what tasks had left in the directory of reservation ${id} of agent ${agentId} is removed`;
  appendEvent(cx, { type: 'directory.removed', agentId, message });
}
