/** What `RedisModel` keeps: the data of one cluster as plain values, so that all of it can be copied and emptied. */
import type { SessionId } from '../../protocol/ids.ts';
import type { ClientName, RegistryName } from '../../protocol/keys.ts';
import { REGISTRY_NAMES } from '../../protocol/keys.ts';
import type {
  InboxEntry,
  Lease,
  OutputChunk,
  SealedPrincipals,
  StreamEntry,
  StreamId,
} from '../store.ts';

/** A stream that counts its entries for ever; an id is `1-POSITION`, so that it sorts and reads like a real one. */
export interface Stream<T> {
  last: number;
  entries: { readonly position: number; readonly value: T }[];
  /** It is gone from then on; undefined: it stays. */
  expiresAtMs?: number;
}

/** A state of the whole cluster, and the last event in it. */
export interface StoredSnapshot {
  readonly state: string;
  readonly event: StreamId;
}

/** An entry of a client's stream. */
export type Told = Omit<StreamEntry, 'id'>;

/** Everything that is gone when Redis comes back empty. */
export interface Data {
  leader: { readonly lease: Lease; readonly expiresAtMs: number } | undefined;
  /** By which connection the lease was last taken or renewed; undefined: not told. */
  leaderConnection: number | undefined;
  server: string | undefined;
  /** Whether a leader of that server has committed. */
  isSettled: boolean;
  sessionFloor: number;
  readonly sessionNumbers: Map<ClientName, number>;
  /** Undefined: none has been given out yet. */
  epoch: number | undefined;
  commitNumber: number;
  cursor: StreamId;
  readonly inbox: Stream<Omit<InboxEntry, 'id'>>;
  readonly streams: Map<string, Stream<Told>>;
  /** What executors said, by `streamKey`. */
  readonly directs: Map<string, Stream<string>>;
  readonly outputs: Map<string, Stream<OutputChunk>>;
  /** By `streamKey`. */
  readonly sequences: Map<string, number>;
  readonly heard: Map<string, string>;
  principals: SealedPrincipals;
  readonly liveness: Map<ClientName, number>;
  readonly sessions: Map<ClientName, SessionId>;
  readonly registry: Readonly<Record<RegistryName, Map<string, string>>>;
  /** One entry for the events of one commit. */
  readonly events: Stream<readonly string[]>;
  readonly history: string[];
  readonly quarantine: string[];
  readonly snapshots: StoredSnapshot[];
}

/** @returns an empty stream */
export function newStream<T>(): Stream<T> {
  return { last: 0, entries: [] };
}

/** @returns what an empty Redis has */
export function emptyData(): Data {
  return {
    leader: undefined,
    leaderConnection: undefined,
    server: undefined,
    isSettled: false,
    sessionFloor: 0,
    sessionNumbers: new Map(),
    epoch: undefined,
    commitNumber: 0,
    cursor: '0-0',
    inbox: newStream(),
    streams: new Map(),
    directs: new Map(),
    outputs: new Map(),
    sequences: new Map(),
    heard: new Map(),
    principals: { version: '0', sealed: new Map() },
    liveness: new Map(),
    sessions: new Map(),
    registry: registryOf(() => new Map<string, string>()),
    events: newStream(),
    history: [],
    quarantine: [],
    snapshots: [],
  };
}

/** @returns the same data, which does not change when the other does */
export function copyData(data: Data): Data {
  return {
    ...data,
    inbox: copyStream(data.inbox),
    sessionNumbers: new Map(data.sessionNumbers),
    streams: copyStreams(data.streams),
    directs: copyStreams(data.directs),
    outputs: copyStreams(data.outputs),
    sequences: new Map(data.sequences),
    heard: new Map(data.heard),
    liveness: new Map(data.liveness),
    sessions: new Map(data.sessions),
    registry: registryOf((name) => new Map(data.registry[name])),
    events: copyStream(data.events),
    history: [...data.history],
    quarantine: [...data.quarantine],
    snapshots: [...data.snapshots],
  };
}

/** Entries are values that nobody changes; only the list of them is the stream's own. */
function copyStream<T>(stream: Stream<T>): Stream<T> {
  return { ...stream, entries: [...stream.entries] };
}

function copyStreams<T>(streams: ReadonlyMap<string, Stream<T>>): Map<string, Stream<T>> {
  return new Map([...streams].map(([key, stream]) => [key, copyStream(stream)]));
}

function registryOf(
  records: (name: RegistryName) => Map<string, string>,
): Record<RegistryName, Map<string, string>> {
  const entries = REGISTRY_NAMES.map((name) => [name, records(name)] as const);
  return Object.fromEntries(entries) as Record<RegistryName, Map<string, string>>;
}

/** Name of the stream of one session. */
export function streamKey(client: ClientName, session: SessionId): string {
  return `${client}:${session}`;
}

/** @returns the stream of that name, unless it has never been or has expired */
export function livingStream(data: Data, key: string, nowMs: number): Stream<Told> | undefined {
  const stream = data.streams.get(key);
  if ((stream?.expiresAtMs ?? Infinity) > nowMs) return stream;
  data.streams.delete(key);
  return undefined;
}

/** @returns the stream of that name; an empty one begins if there is none */
export function writableStream(data: Data, key: string, nowMs: number): Stream<Told> {
  let stream = livingStream(data, key, nowMs);
  if (!stream) data.streams.set(key, (stream = newStream<Told>()));
  return stream;
}

/** Appends an entry. */
export function addEntry<T>(stream: Stream<T>, value: T): void {
  stream.last += 1;
  stream.entries.push({ position: stream.last, value });
}

/** @returns the id of the entry that was appended last, `0-0` if there was none */
export function lastIdOf(stream: Stream<unknown>): StreamId {
  return stream.last === 0 ? '0-0' : idOf(stream.last);
}

/** @returns the entries after `cursor`, at most `count` */
export function entriesAfter<T>(
  stream: Stream<T> | undefined,
  cursor: StreamId,
  count = Infinity,
): { id: StreamId; value: T }[] {
  const position = positionOf(cursor);
  const entries = (stream?.entries ?? []).filter((entry) => entry.position > position);
  return entries.slice(0, count).map((entry) => ({ id: idOf(entry.position), value: entry.value }));
}

/** Drops the entries before `cursor`. */
export function trimBefore(stream: Stream<unknown> | undefined, cursor: StreamId): void {
  const position = positionOf(cursor);
  if (stream) stream.entries = stream.entries.filter((entry) => entry.position >= position);
}

/** Drops one entry. */
export function removeEntry(stream: Stream<unknown>, id: StreamId): void {
  stream.entries = stream.entries.filter((entry) => entry.position !== positionOf(id));
}

function positionOf(id: StreamId): number {
  return Number(id.split('-')[1]);
}

function idOf(position: number): StreamId {
  return `1-${String(position)}`;
}
