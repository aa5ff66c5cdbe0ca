/**
 * A client's session as data and rules: what is sent next, what an answer of the store means, when a new session must
 * begin. No I/O and no clock, so that the mailbox and the simulator follow one and the same text.
 *
 * A session is one registration. Its entries are numbered from 1; the store drops a repeated one and reports a gap.
 */
import { decodeEntry, encodeEntries } from '../protocol/codec.ts';
import type { BadMessage } from '../protocol/codec.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { Message } from '../protocol/messages.ts';
import type { AppendResult, HeartbeatResult, StreamEntry, StreamId } from './store.ts';
import { START } from './store.ts';

/** A registration that has not been answered for so long is sent again, milliseconds. */
export const REGISTER_RETRY_MS = 5000;

/** One client's side of its streams. */
export interface ClientSession {
  id: SessionId;
  openedAtMs: number;
  /** Number of the last entry that is known to be in the inbox. */
  sequence: number;
  /** Last entry read of the client's own stream. */
  cursor: StreamId;
  /** Not yet encoded. */
  outbox: Message[];
  /** Encoded and not yet known to be appended, oldest first; only the first is on its way. */
  entries: string[];
}

/** @returns a session that has not been opened: it has nothing to send */
export function createSession(id: SessionId): ClientSession {
  return { id, openedAtMs: 0, sequence: 0, cursor: START, outbox: [], entries: [] };
}

/**
 * Begins a new session: the registration first, then whatever was not known to be appended in the old one, because an
 * entry of the old session that is still on its way never will be.
 */
export function openSession(
  session: ClientSession,
  next: { readonly id: SessionId; readonly registration: readonly Message[] },
  nowMs: number,
): void {
  const waiting = session.entries.flatMap((entry) => JSON.parse(entry) as Message[]);
  session.id = next.id;
  session.openedAtMs = nowMs;
  session.sequence = 0;
  session.cursor = START;
  session.outbox = [...next.registration, ...waiting, ...session.outbox];
  session.entries = [];
}

/** @returns the entry to append now; the same one until it is answered; undefined if there is nothing to send */
export function nextAppend(
  session: ClientSession,
): { readonly sequence: number; readonly messages: string } | undefined {
  if (session.entries.length === 0) {
    session.entries = encodeEntries(session.outbox);
    session.outbox = [];
  }
  const [messages] = session.entries;
  return messages === undefined ? undefined : { sequence: session.sequence + 1, messages };
}

/**
 * Takes the store's answer to the append of session `id`.
 *
 * @returns `next`: go on with the next entry; `reopen`: open a new session; `wait`: try again later
 */
export function appendAnswered(
  session: ClientSession,
  id: SessionId,
  result: AppendResult,
): 'next' | 'reopen' | 'wait' {
  if (id !== session.id) return 'next'; // Reopened meanwhile; the new session has taken the entries over.
  if (result === 'gap') return 'reopen';
  if (result === 'full') return 'wait';
  session.sequence += 1;
  session.entries.shift();
  return 'next';
}

/** What was read, decoded. */
export interface Received {
  readonly messages: readonly Message[];
  readonly bad: readonly (BadMessage & { readonly entry: StreamId })[];
}

/** Takes entries of the stream of session `id`; those of a session that has ended are dropped. */
export function entriesRead(
  session: ClientSession,
  id: SessionId,
  entries: readonly StreamEntry[],
): Received {
  const messages: Message[] = [];
  const bad: (BadMessage & { entry: StreamId })[] = [];
  if (id !== session.id) return { messages, bad };
  for (const entry of entries) {
    session.cursor = entry.id;
    for (const decoded of decodeEntry(entry.messages)) {
      if (decoded.ok) messages.push(decoded.value);
      else bad.push({ code: decoded.code, message: decoded.message, entry: entry.id });
    }
  }
  return { messages, bad };
}

/** What a heartbeat says: of which session, and how far its stream has been read. */
export interface Heartbeat {
  readonly id: SessionId;
  readonly cursor: StreamId;
}

/**
 * Takes the store's answer to a heartbeat.
 *
 * @param sent the heartbeat as it was sent: an answer says nothing of what has been read since
 * @returns `moved`: another process has registered under this client's name, stop; `reopen`: register again
 */
export function heartbeatAnswered(
  session: ClientSession,
  sent: Heartbeat,
  result: HeartbeatResult,
  nowMs: number,
): 'ok' | 'reopen' | 'moved' {
  if (sent.id !== session.id || result === 'ok') return 'ok';
  // A registration that is still on its way looks the same: first there is nothing, or the session before this one.
  if (nowMs - session.openedAtMs < REGISTER_RETRY_MS) return 'ok';
  // Only a session that was registered when it asked can have been replaced: what was read tells that it was.
  return result === 'moved' && sent.cursor !== START ? 'moved' : 'reopen';
}
