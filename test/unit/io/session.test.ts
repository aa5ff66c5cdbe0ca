import { describe, expect, test } from '@jest/globals';
import type { ClientSession } from '../../../io/session.ts';
import {
  appendAnswered,
  createSession,
  entriesRead,
  heartbeatAnswered,
  nextAppend,
  isAnswered,
  openSession,
  REGISTER_RETRY_MS,
  renewSession,
} from '../../../io/session.ts';
import { START } from '../../../io/store.ts';
import type { FrameworkId, SessionId } from '../../../protocol/ids.ts';
import type { Message } from '../../../protocol/messages.ts';

const s1 = 's1' as SessionId;
const s2 = 's2' as SessionId;
const LATER_MS = REGISTER_RETRY_MS + 1;

const revive = (name: string): Message => ({
  type: 'ReviveOffers',
  frameworkId: name as FrameworkId,
});

/** The names in the entry that is sent next. */
function sent(session: ClientSession): string[] | undefined {
  const next = nextAppend(session);
  if (!next) return undefined;
  return (JSON.parse(next.messages) as { frameworkId: string }[]).map(
    (message) => message.frameworkId,
  );
}

/** Opened at 0 with its registration `r1` on its way. */
function opened(): ClientSession {
  const session = createSession();
  openSession(session, { id: s1, registration: [revive('r1')] }, 0);
  nextAppend(session);
  return session;
}

/** Its registration was taken and answered. */
function registered(): ClientSession {
  const session = opened();
  appendAnswered(session, 'appended');
  entriesRead(session, s1, [{ id: '1-1', messages: JSON.stringify([revive('answer')]) }]);
  return session;
}

function reopen(session: ClientSession): void {
  openSession(session, { id: s2, registration: [revive('r2')] }, LATER_MS);
}

describe('what is sent', () => {
  test('is numbered from 1, one entry at a time, with all that waits', () => {
    const session = opened();
    session.outbox.push(revive('a'), revive('b'));
    expect(nextAppend(session)?.sequence).toBe(1);
    expect(appendAnswered(session, 'appended')).toBe('next');
    expect(sent(session)).toEqual(['a', 'b']);
    expect(nextAppend(session)?.sequence).toBe(2);
    appendAnswered(session, 'appended');
    expect(nextAppend(session)).toBeUndefined();
  });

  test('is sent again when the inbox was full', () => {
    const session = opened();
    expect(appendAnswered(session, 'full')).toBe('wait');
    expect(sent(session)).toEqual(['r1']);
  });

  test('and was there already counts as sent', () => {
    const session = opened();
    expect(appendAnswered(session, 'duplicate')).toBe('next');
    expect(nextAppend(session)).toBeUndefined();
  });

  test('follows the registration when a new session begins', () => {
    const session = registered();
    session.outbox.push(revive('a'));
    nextAppend(session);
    session.outbox.push(revive('b'));
    expect(appendAnswered(session, 'gap')).toBe('reopen');
    reopen(session);
    expect(sent(session)).toEqual(['r2', 'a', 'b']);
    expect(nextAppend(session)?.sequence).toBe(1);
  });
});

describe('a session that is over', () => {
  test.each([
    ['the store has lost its entries', (session: ClientSession) => appendAnswered(session, 'gap')],
    [
      'the master does not know it',
      (session: ClientSession) =>
        heartbeatAnswered(session, { id: s1, cursor: '1-1' }, 'unknown', LATER_MS),
    ],
  ])('because %s is silent until the next has begun', (_why, end) => {
    const session = registered();
    expect(end(session)).toBe('reopen');
    session.outbox.push(revive('a'));
    expect(nextAppend(session)).toBeUndefined();
    const entry = { id: '1-2', messages: JSON.stringify([revive('b')]) };
    expect(entriesRead(session, s1, [entry]).messages).toEqual([]);
    const heartbeat = { id: s1, cursor: '1-1' };
    expect(heartbeatAnswered(session, heartbeat, 'moved', LATER_MS)).toBe('ok');
    reopen(session);
    expect(sent(session)).toEqual(['r2', 'a']);
  });

  test('has nothing to say before the first one', () => {
    const session = createSession();
    session.outbox.push(revive('a'));
    expect(nextAppend(session)).toBeUndefined();
  });
});

describe('a session whose registration is not true any more', () => {
  test('is followed by one with a new registration, and nothing that waits is lost', () => {
    const session = registered();
    session.outbox.push(revive('a'));
    expect(renewSession(session)).toBe(true);
    expect(renewSession(session)).toBe(false); // It is over already.
    reopen(session);
    expect(sent(session)).toEqual(['r2', 'a']);
  });

  test('ends with the append that is on its way', () => {
    const session = registered();
    session.outbox.push(revive('a'));
    nextAppend(session);
    expect(renewSession(session)).toBe(false);
    expect(appendAnswered(session, 'appended')).toBe('reopen');
    reopen(session);
    expect(sent(session)).toEqual(['r2']);
  });
});

test('a session is answered when its first message has come', () => {
  const session = opened();
  expect(isAnswered(session)).toBe(false);
  expect(isAnswered(registered())).toBe(true);
  renewSession(session);
  expect(isAnswered(session)).toBe(false);
});

describe('what is read', () => {
  test('of a session that has ended is dropped', () => {
    const session = registered();
    reopen(session);
    const entry = { id: '1-9', messages: JSON.stringify([revive('a')]) };
    expect(entriesRead(session, s1, [entry]).messages).toEqual([]);
    expect(session.cursor).toBe(START);
  });

  test('and is not a message is told, and holds nothing up', () => {
    const messages = JSON.stringify([{ type: 'Nonsense' }, revive('a')]);
    const { messages: good, bad } = entriesRead(opened(), s1, [{ id: '1-1', messages }]);
    expect(good).toEqual([revive('a')]);
    expect(bad).toMatchObject([{ entry: '1-1', code: 'unknown-type' }]);
  });
});

describe('a heartbeat', () => {
  test('that finds the session unknown opens a new one', () => {
    const session = registered();
    expect(heartbeatAnswered(session, { id: s1, cursor: '1-1' }, 'unknown', LATER_MS)).toBe(
      'reopen',
    );
  });

  test('that finds another session registered ends the client', () => {
    const session = registered();
    expect(heartbeatAnswered(session, { id: s1, cursor: '1-1' }, 'moved', LATER_MS)).toBe('moved');
  });

  test('that finds the session before this one registers again, but not at once', () => {
    const session = opened();
    appendAnswered(session, 'appended');
    const heartbeat = { id: s1, cursor: START };
    expect(heartbeatAnswered(session, heartbeat, 'moved', REGISTER_RETRY_MS - 1)).toBe('ok');
    expect(heartbeatAnswered(session, heartbeat, 'moved', LATER_MS)).toBe('reopen');
  });

  // Found by the simulator: an agent was told that it had been replaced, and a framework launched twice.
  test.each(['unknown', 'moved'] as const)(
    'from before the registration that is answered %s after it says nothing',
    (result) => {
      expect(heartbeatAnswered(registered(), { id: s1, cursor: START }, result, LATER_MS)).toBe(
        'ok',
      );
    },
  );

  // Found by the simulator: what was appended in the old session was launched once more in the new one, and refused.
  test('that finds the session unknown waits for the append that is on its way', () => {
    const session = registered();
    session.outbox.push(revive('a'));
    nextAppend(session);
    expect(heartbeatAnswered(session, { id: s1, cursor: '1-1' }, 'unknown', LATER_MS)).toBe('ok');
    expect(appendAnswered(session, 'appended')).toBe('reopen');
    reopen(session);
    expect(sent(session)).toEqual(['r2']);
  });
});

test('what an agent says past the master moves no cursor, and nobody but an executor speaks so', () => {
  const session = registered();
  const word = {
    type: 'ExecutorToFramework',
    frameworkId: 'f1',
    agentId: 'a1',
    executorId: 'e1',
    data: 'hello',
  };
  const said = [
    { id: '9-1', messages: JSON.stringify([word, revive('forged')]), isDirect: true },
    { id: '2-1', messages: JSON.stringify([revive('told')]) },
  ];
  const { messages, bad } = entriesRead(session, s1, said);
  expect(messages.map(({ type }) => type)).toEqual(['ExecutorToFramework', 'ReviveOffers']);
  expect(bad).toEqual([
    { code: 'invalid', message: 'ReviveOffers came past the master', entry: '9-1' },
  ]);
  expect(session.cursor).toBe('2-1');
});
