/** A commit as the keys and arguments of the `COMMIT` script. Pure; the format is described with the script. */
import type { ClientName, Keys } from '../protocol/keys.ts';
import {
  EVENTS_MAX_ENTRIES,
  HISTORY_MAX_ENTRIES,
  QUARANTINE_MAX_ENTRIES,
  SNAPSHOTS_MAX_ENTRIES,
} from '../protocol/limits.ts';
import type { Commit, Seal } from './store.ts';
import { FAREWELL_MS } from './store.ts';

/** Lua's `unpack` takes some 8,000 values; this many fit with room to spare. */
const VALUES_PER_OPERATION = 2000;

/** Operations of a commit: one key for each of `keys`, and its code, count and values in `args`. */
export interface EncodedCommit {
  readonly keys: string[];
  readonly args: (string | number)[];
  /** Position (from 1) of each send among the operations: whose stream is over its limit. */
  readonly sendTo: ReadonlyMap<number, ClientName>;
}

/**
 * @returns the operations of a commit, each small enough for Lua; the fixed keys and arguments are not in it
 */
export function encodeCommit(commit: Commit, names: Keys): EncodedCommit {
  const keys: string[] = [];
  const args: (string | number)[] = [];
  const sendTo = new Map<number, ClientName>();
  const operation = (code: string, key: string, values: readonly (string | number)[]): void => {
    keys.push(key);
    args.push(code, values.length);
    for (const value of values) args.push(value);
  };
  const chunked = (code: string, key: string, values: readonly string[]): void => {
    for (let from = 0; from < values.length; from += VALUES_PER_OPERATION) {
      operation(code, key, values.slice(from, from + VALUES_PER_OPERATION));
    }
  };

  encodeChanges(commit, names, chunked);
  encodeSessions(commit, names, chunked);
  for (const { client, session, messages, seal } of commit.sends) {
    operation('S', names.client(client, session), [messages, ...fieldsOfSeal(seal)]);
    sendTo.set(keys.length, client);
  }
  for (const { client, session, farewell, seal } of commit.endedStreams) {
    const key = names.client(client, session);
    if (farewell === undefined) operation('K', key, []);
    else operation('F', key, [FAREWELL_MS / 1000, farewell, ...fieldsOfSeal(seal)]);
  }
  // All events of a commit are one entry: they happened together, and one append costs less than many.
  if (commit.events.length > 0) {
    operation('X', names.events, [EVENTS_MAX_ENTRIES, 'events', `[${commit.events.join(',')}]`]);
  }
  for (const task of commit.history) {
    operation('X', names.history, [HISTORY_MAX_ENTRIES, 'task', task]);
  }
  for (const record of commit.quarantine) {
    operation('X', names.quarantine, [QUARANTINE_MAX_ENTRIES, 'record', record]);
  }
  if (commit.snapshot !== undefined) {
    // After the events: a reader continues there.
    operation('E', names.events, []);
    operation('P', names.snapshots, [SNAPSHOTS_MAX_ENTRIES, commit.snapshot]);
  }
  return { keys, args, sendTo };
}

function fieldsOfSeal(seal: Seal | undefined): string[] {
  return seal ? ['position', seal.position, 'mac', seal.mac] : [];
}

type Chunked = (code: string, key: string, values: readonly string[]) => void;

function encodeChanges(commit: Commit, names: Keys, chunked: Chunked): void {
  const writes = new Map<string, string[]>();
  const deletes = new Map<string, string[]>();
  for (const { registry, key, value } of commit.changes) {
    const hash = names.registry[registry];
    if (value === undefined) push(deletes, hash, key);
    else push(writes, hash, key, value);
  }
  for (const { session, value } of commit.heard ?? []) {
    if (value === undefined) push(deletes, names.heard, session);
    else push(writes, names.heard, session, value);
  }
  for (const [hash, values] of writes) chunked('H', hash, values);
  for (const [hash, values] of deletes) chunked('D', hash, values);
}

function encodeSessions(commit: Commit, names: Keys, chunked: Chunked): void {
  const begun: [ClientName, string][] = [];
  const ended: string[] = [];
  for (const { client, session } of commit.sessions) {
    if (session === undefined) ended.push(client);
    else begun.push([client, session]);
  }
  chunked('H', names.sessions, begun.flat());
  // From now on, so that a client that dies before its first heartbeat is missed too.
  chunked(
    'L',
    names.liveness,
    begun.map(([client]) => client),
  );
  chunked('D', names.sessions, ended);
  chunked('Z', names.liveness, ended);
}

function push(map: Map<string, string[]>, key: string, ...values: string[]): void {
  const list = map.get(key);
  if (list) list.push(...values);
  else map.set(key, values);
}
