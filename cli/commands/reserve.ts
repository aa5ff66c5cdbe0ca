/** `kaon reserve` and `kaon unreserve`: something of a node is kept for a role, and given back. */
import type { RedisStore } from '../../io/redis-store.ts';
import type { AgentId, ReservationId } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { pickAgent } from '../agent-view.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ConnectionOptions } from '../options.ts';
import { readCluster, tellUnreadable } from '../registry.ts';
import { request } from '../request.ts';
import { escapeControls } from '../words.ts';

/** What is to be reserved, of whichever agent. */
export type ReserveWish = Omit<MessageOf<'Reserve'>, 'type' | 'requestId' | 'agentId'>;

/** @returns the exit code @throws as `request`, `pickAgent` */
export async function reserve(
  options: ConnectionOptions,
  asked: string,
  wish: ReserveWish,
): Promise<number> {
  await withStore(options, { name: 'reserve' }, async (store) => {
    const agentId = await findAgent(store, asked);
    const { message = '' } = await request(store, {
      message: (requestId) => ({ type: 'Reserve', requestId, agentId, ...wish }),
      what: `reserve something of agent ${agentId}`,
      refusal: 'reservation.refused',
    });
    process.stdout.write(`${escapeControls(message)}\n`);
  });
  return EXIT_OK;
}

/** @returns the exit code @throws as `request`, `pickAgent` */
export async function unreserve(
  options: ConnectionOptions,
  asked: string,
  reservation: string,
  destroy: boolean,
): Promise<number> {
  const reservationId = reservation as ReservationId;
  await withStore(options, { name: 'unreserve' }, async (store) => {
    const agentId = await findAgent(store, asked);
    const { message = '' } = await request(store, {
      message: (requestId) => ({ type: 'Unreserve', requestId, agentId, reservationId, destroy }),
      what: `end reservation ${reservation} of agent ${agentId}`,
      refusal: 'reservation.refused',
    });
    process.stdout.write(`${escapeControls(message)}\n`);
  });
  return EXIT_OK;
}

async function findAgent(store: RedisStore, asked: string): Promise<AgentId> {
  const cluster = await readCluster(store);
  tellUnreadable(cluster.unreadable);
  return pickAgent(asked, cluster.agents).info.agentId;
}
