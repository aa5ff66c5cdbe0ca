/** What a commit changes once it is known to be allowed: the operations of the `COMMIT` script, in its order. */
import type { ClientName } from '../../protocol/keys.ts';
import { CLIENT_STREAM_MAX_ENTRIES, SNAPSHOTS_MAX_ENTRIES } from '../../protocol/limits.ts';
import type { Commit } from '../store.ts';
import { FAREWELL_MS } from '../store.ts';
import type { Data, Told } from './data.ts';
import { addEntry, lastIdOf, newStream, streamKey, trimBefore, writableStream } from './data.ts';

/** @returns the clients whose streams are over the limit */
export function applyCommit(data: Data, commit: Commit, nowMs: number): ClientName[] {
  for (const { registry, key, value } of commit.changes) {
    if (value === undefined) data.registry[registry].delete(key);
    else data.registry[registry].set(key, value);
  }
  for (const { session, value } of commit.heard ?? []) {
    if (value === undefined) data.heard.delete(session);
    else data.heard.set(session, value);
  }
  for (const { client, session } of commit.sessions) {
    if (session !== undefined) {
      data.sessions.set(client, session);
      data.liveness.set(client, nowMs);
    } else {
      data.sessions.delete(client);
      data.liveness.delete(client);
    }
  }
  const overflowing = send(data, commit.sends, nowMs);
  endStreams(data, commit.endedStreams, nowMs);
  if (commit.events.length > 0) addEntry(data.events, commit.events);
  data.history.push(...commit.history);
  data.quarantine.push(...commit.quarantine);
  if (commit.snapshot !== undefined) {
    data.snapshots.push({ state: commit.snapshot, event: lastIdOf(data.events) });
    data.snapshots.splice(0, data.snapshots.length - SNAPSHOTS_MAX_ENTRIES);
  }
  data.isSettled = true;
  data.commitNumber = commit.number;
  data.cursor = commit.cursor;
  trimBefore(data.inbox, commit.cursor);
  return overflowing;
}

function send(data: Data, sends: Commit['sends'], nowMs: number): ClientName[] {
  const overflowing = new Set<ClientName>();
  for (const { client, session, messages, seal } of sends) {
    const stream = writableStream(data, streamKey(client, session), nowMs);
    addEntry(stream, { messages, ...(seal && { seal }) });
    if (stream.entries.length > CLIENT_STREAM_MAX_ENTRIES) overflowing.add(client);
  }
  return [...overflowing];
}

function endStreams(data: Data, endedStreams: Commit['endedStreams'], nowMs: number): void {
  for (const { client, session, farewell, seal } of endedStreams) {
    const key = streamKey(client, session);
    const last = data.streams.get(key)?.last ?? 0;
    data.streams.delete(key);
    if (farewell === undefined) continue;
    // Ids go on growing, as those of Redis do with time: whoever has read the stream reads this too.
    const stream = { ...newStream<Told>(), last, expiresAtMs: nowMs + FAREWELL_MS };
    data.streams.set(key, stream);
    addEntry(stream, { messages: farewell, ...(seal && { seal }) });
  }
}
