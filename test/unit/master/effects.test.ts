import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import { buildCommit, logEffects } from '../../../master/effects.ts';
import { decodeSnapshot } from '../../../master/load.ts';
import type { Message } from '../../../protocol/messages.ts';
import { frameworkIdOf, masterIdOf, sessionOf } from '../../support/builders.ts';
import { createWatchedLog } from '../../support/watch.ts';

const position = { lease: { masterId: masterIdOf('m1'), epoch: 1 }, number: 1, cursor: '1-1' };
const session = sessionOf('s1');
const revive = { type: 'ReviveOffers', frameworkId: frameworkIdOf('f1') } as Message;
const suppress = { type: 'SuppressOffers', frameworkId: frameworkIdOf('f1') } as Message;

const sendTo = (
  client: 'agent:a1' | 'framework:f1',
  message: Message,
  to = session,
): MasterEffect => ({
  type: 'send',
  client,
  session: to,
  message,
});

describe('a commit', () => {
  test('has what is sent to one session in one entry, in order', () => {
    const { sends } = buildCommit(
      position,
      [sendTo('agent:a1', revive), sendTo('framework:f1', revive), sendTo('agent:a1', suppress)],
      [],
    );
    expect(sends).toEqual([
      { client: 'agent:a1', session, messages: JSON.stringify([revive, suppress]) },
      { client: 'framework:f1', session, messages: JSON.stringify([revive]) },
    ]);
  });

  test('sends nothing to a session that ends in it: the stream would be made again', () => {
    const { sends, endedStreams } = buildCommit(
      position,
      [
        sendTo('agent:a1', revive),
        { type: 'stream.end', client: 'agent:a1', session },
        sendTo('agent:a1', suppress, sessionOf('s2')),
      ],
      [],
    );
    expect(sends.map((send) => send.session)).toEqual(['s2']);
    expect(endedStreams).toEqual([{ client: 'agent:a1', session }]);
  });

  test('has the last session of a client that registered twice in it', () => {
    const { sessions } = buildCommit(
      position,
      [
        { type: 'session.set', client: 'agent:a1', session },
        { type: 'session.set', client: 'agent:a1', session: undefined },
        { type: 'session.set', client: 'agent:a1', session: sessionOf('s2') },
      ],
      [],
    );
    expect(sessions).toEqual([{ client: 'agent:a1', session: 's2' }]);
  });
});

test('what was ignored is counted, and agents and frameworks are told of at info', () => {
  const log = createWatchedLog();
  const counters = { badMessages: 0, ignoredMessages: 4 };
  logEffects(log, counters, [
    { type: 'message.ignore', from: 'agent:a1', messageType: 'StatusUpdate', reason: 'why' },
    { type: 'event.append', event: { type: 'agent.registered', atMs: 1, reason: 'new' } },
  ]);
  expect(counters.ignoredMessages).toBe(5);
  expect(log.lines.seen).toEqual([
    {
      event: 'message.ignored',
      fields: { from: 'agent:a1', messageType: 'StatusUpdate', reason: 'why' },
    },
    { event: 'agent.registered', fields: { reason: 'new' } },
  ]);
});

test('a record that cannot be read is named and skipped, and the others are loaded', () => {
  const log = createWatchedLog();
  const good = {
    info: { agentId: 'a1', hostname: 'n', resources: { cpuMillis: 1, memMib: 1 }, attributes: {} },
    newestSession: 's1',
    node: 'n1',
    state: 'unreachable',
    registeredAtMs: 1,
    writtenOff: [],
  };
  const none = new Map<string, string>();
  const agents = new Map([
    ['a1', JSON.stringify(good)],
    ['a2', '{'],
    ['a3', '{"state":"odd"}'],
  ]);
  const empty = {
    cluster: none,
    roles: none,
    frameworks: none,
    offers: none,
    executors: none,
    tasks: none,
  };
  const registry = { ...empty, agents };
  const records = decodeSnapshot({ registry }, log);
  expect(records.agents).toEqual([good]);
  expect(log.lines.seen.map(({ event, fields }) => [event, fields['key']])).toEqual([
    ['registry.bad-record', 'a2'],
    ['registry.bad-record', 'a3'],
  ]);
});
