/** The core's effects of one batch, gathered into one commit; and those that only concern the log. */
import type { Log } from '../io/log.ts';
import type { Commit, Lease, StreamId } from '../io/store.ts';
import { encodeEntries } from '../protocol/codec.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { ClientName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import type { MasterEffect } from './core/effects.ts';
import type { RecordChange } from './core/state.ts';

interface Recipient {
  readonly client: ClientName;
  readonly session: SessionId;
  readonly messages: Message[];
}

/** Counts of what was not acted on, since this master began to lead. */
export interface MasterCounters {
  badMessages: number;
  ignoredMessages: number;
}

/** Who commits, and the commit's place in the sequence of all commits. */
export interface CommitPosition {
  readonly lease: Lease;
  readonly number: number;
  readonly cursor: StreamId;
}

/** @returns a commit of all effects; messages to one session are packed, in order */
export function buildCommit(
  position: CommitPosition,
  effects: readonly MasterEffect[],
  changes: readonly RecordChange[],
): Commit {
  const recipients = new Map<string, Recipient>();
  const sessions = new Map<ClientName, SessionId | undefined>();
  const endedStreams = new Map<string, Extract<MasterEffect, { type: 'stream.end' }>>();
  const events: string[] = [];
  const history: string[] = [];
  for (const effect of effects) {
    switch (effect.type) {
      case 'send':
        recipientOf(recipients, effect.client, effect.session).messages.push(effect.message);
        break;
      case 'session.set':
        sessions.set(effect.client, effect.session);
        break;
      case 'stream.end':
        endedStreams.set(`${effect.client}:${effect.session}`, effect);
        break;
      case 'event.append':
        events.push(JSON.stringify(effect.event));
        break;
      case 'history.append':
        history.push(JSON.stringify(effect.task));
        break;
      case 'message.ignore':
        break;
      default:
        effect satisfies never;
    }
  }
  // A message to a stream that ends in the same commit would make the stream again, for ever.
  for (const key of endedStreams.keys()) recipients.delete(key);
  return {
    ...position,
    changes,
    sessions: [...sessions].map(([client, session]) => ({ client, session })),
    endedStreams: [...endedStreams.values()].map(({ client, session, farewell }) => ({
      client,
      session,
      ...(farewell && { farewell: JSON.stringify([farewell]) }),
    })),
    sends: [...recipients.values()].flatMap(({ client, session, messages }) =>
      encodeEntries(messages).map((entry) => ({ client, session, messages: entry })),
    ),
    events,
    history,
    quarantine: [],
    snapshot: undefined,
  };
}

/** Writes one line for each effect worth asking about. Launches and updates are in the event log; here they are debug. */
export function logEffects(
  log: Log,
  counters: MasterCounters,
  effects: readonly MasterEffect[],
): void {
  for (const effect of effects) {
    if (effect.type === 'message.ignore') {
      counters.ignoredMessages += 1;
      const { from, messageType, reason } = effect;
      log.debug('message.ignored', { from, messageType, reason });
    } else if (effect.type === 'event.append') {
      const { type, atMs: _atMs, ...fields } = effect.event;
      if (/^(agent|framework|principal|request)\./.test(type)) log.info(type, fields);
      else log.debug(type, fields);
    }
  }
}

function recipientOf(
  recipients: Map<string, Recipient>,
  client: ClientName,
  session: SessionId,
): Recipient {
  const key = `${client}:${session}`;
  let recipient = recipients.get(key);
  if (!recipient) recipients.set(key, (recipient = { client, session, messages: [] }));
  return recipient;
}
