/**
 * What a step asks the shell to do, as data, and the context that handlers write it to.
 * All of it goes into one commit; nothing happens before that is stored.
 */
import type { SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Principal } from '../../protocol/principals.ts';
import type { ClusterEvent, EndedTask } from '../../protocol/records.ts';
import type { MasterState } from './state.ts';

/** What a step asks for. The order within one client's messages, and of events, is kept in the commit. */
export type MasterEffect =
  /** Send a message to a client's session. */
  | {
      readonly type: 'send';
      readonly client: ClientName;
      readonly session: SessionId;
      readonly message: Message;
    }
  /** The client's session is now this one; undefined: it has none and is forgotten. */
  | {
      readonly type: 'session.set';
      readonly client: ClientName;
      readonly session: SessionId | undefined;
    }
  /** The session has ended: its stream goes, at once, or soon after a last word to whoever still reads it. */
  | {
      readonly type: 'stream.end';
      readonly client: ClientName;
      readonly session: SessionId;
      readonly farewell?: Message;
      /** To a session that was never registered: the client may have no key that the master knows. */
      readonly isRefusal?: boolean;
    }
  | { readonly type: 'event.append'; readonly event: ClusterEvent }
  | { readonly type: 'history.append'; readonly task: EndedTask }
  /** A message was not acted on; said in the log, and counted. */
  | {
      readonly type: 'message.ignore';
      readonly from: string;
      readonly messageType: string;
      readonly reason: string;
    };

/** One step: the state it may change, the time, and the effects so far. */
export interface StepContext {
  readonly state: MasterState;
  /** Milliseconds since 1970, by the clock of Redis. */
  readonly nowMs: number;
  /** Who has said what is being acted on; absent in an open cluster, and when nobody has. */
  readonly principal?: Principal;
  readonly effects: MasterEffect[];
}

/** Queues a message for a client; without a session there is nobody to send to, and nothing is queued. */
export function send(
  cx: StepContext,
  client: ClientName,
  session: SessionId | undefined,
  message: Message,
): void {
  if (session !== undefined) cx.effects.push({ type: 'send', client, session, message });
}

/** Adds a line to the event log, dated with the time of this step. */
export function appendEvent(cx: StepContext, event: Omit<ClusterEvent, 'atMs'>): void {
  const { principal, nowMs: atMs } = cx;
  const dated: ClusterEvent = { ...event, atMs };
  if (principal) dated.principal ??= principal.name;
  cx.effects.push({ type: 'event.append', event: dated });
}

/**
 * Replaces a client's session. The stream of the old one goes. If another process has taken the client's name, the old
 * one reads why in it; a process that has only opened a new session does not read the old one any more.
 */
export function changeSession(
  cx: StepContext,
  client: ClientName,
  from: SessionId | undefined,
  to: SessionId | undefined,
): void {
  if (from === to) return;
  cx.effects.push({ type: 'session.set', client, session: to });
  if (from === undefined) return;
  const farewell = to === undefined ? undefined : farewellOf(client);
  cx.effects.push({ type: 'stream.end', client, session: from, ...(farewell && { farewell }) });
}

function farewellOf(client: ClientName): Message {
  return client.startsWith('framework:')
    ? {
        type: 'FrameworkError',
        code: 'framework-failed-over',
        message: 'framework failed over: another scheduler has registered with this framework id',
      }
    : {
        type: 'AgentError',
        code: 'agent-moved',
        message: 'another process has registered as this agent',
      };
}
