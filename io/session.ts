/**
 * A client's session as data and rules: what is sent next, what an answer of the store means, when a new session must
 * begin. No I/O and no clock, so that the mailbox and the simulator follow one and the same text.
 *
 * A session is one registration. Its entries are numbered from 1; the store drops a repeated one and reports a gap. Its
 * number comes from the store; until there is one, the old session is over and the new one has not begun.
 */
import { decodeEntry, encodeEntries } from '../protocol/codec.ts';
import type { BadMessage } from '../protocol/codec.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { Message } from '../protocol/messages.ts';
import type { AppendResult, HeartbeatResult, StreamEntry, StreamId } from './store.ts';
import { START } from './store.ts';

/** A registration that has not been answered for so long is sent again, milliseconds. */
export const REGISTER_RETRY_MS = 5000;

/** Before the first session. */
const NO_SESSION = 'none' as SessionId;

/** One client's side of its streams. */
export interface ClientSession {
  id: SessionId;
  /**
   * False before the first session, and while the next one waits for its number: nothing is sent, and nothing is heard.
   * What was sent in a session that is over would be ignored, and lost.
   */
  isOpen: boolean;
  openedAtMs: number;
  /** Number of the last entry that is known to be in the inbox. */
  sequence: number;
  /** Last entry read of the client's own stream. */
  cursor: StreamId;
  /** Not yet encoded. */
  outbox: Message[];
  /** Encoded and not yet known to be appended, oldest first; only the first is ever on its way. */
  entries: string[];
  /** An append has been sent and not answered. */
  isAppending: boolean;
  /** A new session must begin as soon as it is. */
  isReopenDue: boolean;
}

/** @returns a session that has not been opened: it has nothing to send */
export function createSession(): ClientSession {
  return {
    id: NO_SESSION,
    isOpen: false,
    openedAtMs: 0,
    sequence: 0,
    cursor: START,
    outbox: [],
    entries: [],
    isAppending: false,
    isReopenDue: false,
  };
}

/**
 * Begins a new session: the registration first, then whatever was not appended in the old one. No append may be on its
 * way: whether it was executed is not known, and its messages would perhaps be acted on twice.
 */
export function openSession(
  session: ClientSession,
  next: { readonly id: SessionId; readonly registration: readonly Message[] },
  nowMs: number,
): void {
  const waiting = session.entries.flatMap((entry) => JSON.parse(entry) as Message[]);
  session.id = next.id;
  session.isOpen = true;
  session.openedAtMs = nowMs;
  session.sequence = 0;
  session.cursor = START;
  session.outbox = [...next.registration, ...waiting, ...session.outbox];
  session.entries = [];
  session.isReopenDue = false;
}

/** @returns the entry to append now, the same one until it is appended; undefined if there is nothing to send */
export function nextAppend(
  session: ClientSession,
): { readonly sequence: number; readonly messages: string } | undefined {
  if (!session.isOpen) return undefined;
  if (session.entries.length === 0) {
    session.entries = encodeEntries(session.outbox);
    session.outbox = [];
  }
  const [messages] = session.entries;
  session.isAppending = messages !== undefined;
  return messages === undefined ? undefined : { sequence: session.sequence + 1, messages };
}

/**
 * Takes the store's answer to the append that is on its way.
 *
 * @returns `next`: go on with the next entry; `reopen`: open a new session; `wait`: try again later
 */
export function appendAnswered(
  session: ClientSession,
  result: AppendResult,
): 'next' | 'reopen' | 'wait' {
  session.isAppending = false;
  if (result === 'appended' || result === 'duplicate') {
    session.sequence += 1;
    session.entries.shift();
  }
  if (result === 'gap' || session.isReopenDue) return endSession(session);
  return result === 'full' ? 'wait' : 'next';
}

/** What was read, decoded. */
export interface Received {
  readonly messages: readonly Message[];
  readonly bad: readonly (BadMessage & { readonly entry: StreamId })[];
}

/**
 * Takes entries of the stream of session `id`; those of a session that has ended are dropped, and so is what an agent
 * says that only the master may.
 */
export function entriesRead(
  session: ClientSession,
  id: SessionId,
  entries: readonly StreamEntry[],
): Received {
  const messages: Message[] = [];
  const bad: (BadMessage & { entry: StreamId })[] = [];
  if (id !== session.id || !session.isOpen) return { messages, bad };
  for (const entry of entries) {
    const isDirect = entry.isDirect === true;
    if (!isDirect) session.cursor = entry.id;
    for (const decoded of decodeEntry(entry.messages)) {
      if (!decoded.ok) {
        bad.push({ code: decoded.code, message: decoded.message, entry: entry.id });
      } else if (isDirect && decoded.value.type !== 'ExecutorToFramework') {
        const message = `${decoded.value.type} came past the master`;
        bad.push({ code: 'invalid', message, entry: entry.id });
      } else messages.push(decoded.value);
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
  if (sent.id !== session.id || !session.isOpen || result === 'ok') return 'ok';
  const wasRegistered = sent.cursor !== START;
  const isRegistered = session.cursor !== START;
  // An answer from before the registration, which has arrived after it.
  if (isRegistered && !wasRegistered) return 'ok';
  // A registration that is still on its way looks the same: first there is nothing, or the session before this one.
  if (nowMs - session.openedAtMs < REGISTER_RETRY_MS) return 'ok';
  if (result === 'moved' && wasRegistered) return 'moved';
  if (!session.isAppending) return endSession(session);
  session.isReopenDue = true;
  return 'ok';
}

/** @returns whether the session is open, and its first message has come */
export function isAnswered({ isOpen, cursor }: ClientSession): boolean {
  return isOpen && cursor !== START;
}

/** What was registered in the session is not so any more. @returns whether the next one can be opened at once, or will be */
export function renewSession(session: ClientSession): boolean {
  if (!session.isOpen) return false;
  if (!session.isAppending) return endSession(session) === 'reopen';
  session.isReopenDue = true;
  return false;
}

/** The session is over; the next one is to be opened as soon as it has a number. */
function endSession(session: ClientSession): 'reopen' {
  session.isOpen = false;
  return 'reopen';
}
