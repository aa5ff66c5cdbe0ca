/**
 * The way to one slot of a Redis Cluster. All keys of a Kaon cluster share a hash tag and so a slot, and every command
 * and script touches only them; so each connection simply leads to the node that has the slot, and finds it anew
 * whenever it is made again. Nothing has to be routed, and what has no key (TIME, INFO, pub/sub) asks the same node.
 */
import type { Socket } from 'node:net';
import { createConnection } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AbstractConnector, Redis } from 'ioredis';
import type { TlsConnectOptions } from './redis-tls.ts';
import type { HostAndPort, RedisAddress } from './redis-url.ts';

/** A node that does not answer in this time is passed over, milliseconds. */
const ASK_TIMEOUT_MS = 2000;
/** Pause after no node has known, milliseconds. */
const ASK_AGAIN_MS = 500;
/** A connection that was told to end has this time to do so, milliseconds. */
const DISCONNECT_TIMEOUT_MS = 2000;

/** What ioredis says for calls of a connection that was closed on purpose. */
const CLOSED = 'Connection is closed.';

/** As ioredis takes it in its option `Connector`. */
export type ConnectorClass = new (options: unknown) => AbstractConnector;

/** An address with its nodes; certificates come beside it, as they are read again for each connection. */
type SlotAddress = Pick<RedisAddress, 'nodes' | 'username' | 'password'>;
type AskAddress = SlotAddress & { readonly tls: TlsConnectOptions | undefined };

/** One reply of CLUSTER SLOTS: first and last slot, the master, its replicas. */
type SlotRange = [number, number, ...[string | null, number, ...unknown[]][]];

/**
 * @param address with `nodes`, of which one must answer at first
 * @param cluster name of the Kaon cluster; what has none is led to the node with the slot of the empty name
 */
export function slotConnector(
  address: SlotAddress,
  { cluster, tls }: { readonly cluster: string; readonly tls?: TlsConnectOptions | undefined },
): ConnectorClass {
  const slot = slotOf(cluster);
  let nodes: readonly HostAndPort[] = address.nodes ?? [];

  return class SlotConnector extends AbstractConnector {
    constructor(_options: unknown) {
      super(DISCONNECT_TIMEOUT_MS);
    }

    /** A node that has become a replica is not the owner any more. */
    override check({ role }: { readonly role?: string }): boolean {
      return role !== 'slave';
    }

    async connect(emit: (type: string, error: Error) => void): Promise<Socket> {
      this.connecting = true;
      for (;;) {
        const found = await findOwner({ ...address, tls }, nodes, slot);
        // `disconnect` may have been called while the nodes were asked.
        if (!this.connecting) throw new Error(CLOSED);
        if ('owner' in found) {
          // Another node is asked first the next time: this one may be cut off and know nothing new.
          nodes = found.nodes;
          return this.#open(found.owner);
        }
        emit('error', found.error);
        await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
        if (!this.connecting) throw new Error(CLOSED);
      }
    }

    #open(owner: HostAndPort): Socket {
      const stream = tls ? connectTls({ ...owner, ...tls }) : createConnection(owner);
      stream.once('error', (error) => {
        this.firstError = error;
      });
      this.stream = stream;
      return stream;
    }
  };
}

type Found =
  | { readonly owner: HostAndPort; readonly nodes: readonly HostAndPort[] }
  | { readonly error: Error };

/** Asks one node after the other. `nodes` of what was found: all that are known now, those not asked yet first. */
async function findOwner(
  address: AskAddress,
  nodes: readonly HostAndPort[],
  slot: number,
): Promise<Found> {
  let error = new Error('CLUSTERDOWN no node of the Redis Cluster is known');
  for (const [index, node] of nodes.entries()) {
    try {
      const ranges = await askSlots(address, node);
      const range = ranges.find(([from, to]) => from <= slot && slot <= to);
      if (!range) throw new Error(`CLUSTERDOWN slot ${String(slot)} is not served`);
      const [owner = node] = nodesOf([range], node);
      const rotated = [...nodes.slice(index + 1), ...nodes.slice(0, index + 1)];
      return { owner, nodes: distinct([...rotated, ...nodesOf(ranges, node)]) };
    } catch (cause) {
      error = cause as Error;
    }
  }
  return { error };
}

async function askSlots(address: AskAddress, node: HostAndPort): Promise<SlotRange[]> {
  const { username, password, tls } = address;
  const redis = new Redis({
    ...node,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(tls && { tls }),
    protocol: 2,
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
    connectTimeout: ASK_TIMEOUT_MS,
    commandTimeout: ASK_TIMEOUT_MS,
    connectionName: 'kaon-slots',
    disableClientInfo: true,
  });
  let first: Error | undefined;
  // `connect` only says that the connection is closed; why is in the event.
  redis.on('error', (error: Error) => (first ??= error));
  try {
    await redis.connect();
    return await redis.cluster('SLOTS');
  } catch (error) {
    throw first ?? error;
  } finally {
    // A second `disconnect` of ioredis would keep the process alive for two seconds.
    if (redis.status !== 'end') redis.disconnect();
  }
}

/** Addresses in a reply; a node that does not know its own has none, and is where it was asked. */
function nodesOf(ranges: readonly SlotRange[], asked: HostAndPort): HostAndPort[] {
  return ranges.flatMap(([, , ...nodes]) =>
    nodes.map(([host, port]) => ({
      host: host === null || host === '' || host === '?' ? asked.host : host,
      port,
    })),
  );
}

function distinct(nodes: readonly HostAndPort[]): HostAndPort[] {
  return [...new Map(nodes.map((node) => [`${node.host} ${String(node.port)}`, node])).values()];
}

/**
 * The slot of a hash tag: CRC-16/XMODEM modulo 16384.
 *
 * @see Redis Cluster specification, "Key distribution model"
 */
export function slotOf(tag: string): number {
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
    }
  }
  return crc % 16_384;
}
