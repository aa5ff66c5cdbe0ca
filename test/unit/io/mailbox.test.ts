import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { RedisModel } from '../../../io/fake/model.ts';
import { FakeStore } from '../../../io/fake/store.ts';
import { Mailbox } from '../../../io/mailbox.ts';
import type { Append, AppendResult, HeartbeatResult, StreamEntry } from '../../../io/store.ts';
import { START } from '../../../io/store.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import { isOlderSession, sessionNumber } from '../../../protocol/ids.ts';
import type { ClientName } from '../../../protocol/keys.ts';
import type { Message } from '../../../protocol/messages.ts';
import { frameworkIdOf, frameworkInfo, masterIdOf, sessionOf } from '../../support/builders.ts';
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts';
import { commitOf } from '../../support/store-harness.ts';
import { createWatch, createWatchedLog } from '../../support/watch.ts';

const frameworkId = frameworkIdOf('f1');
const client = 'framework:f1';
const revive: Message = { type: 'ReviveOffers', frameworkId };
const suppress: Message = { type: 'SuppressOffers', frameworkId };

/** A store whose next appends end as they are told to; an error means that the reply was lost after the write. */
class FaultyStore extends FakeStore {
  readonly faults: (AppendResult | Error)[] = [];
  /** So many sessions are not opened. */
  refusedSessions = 0;
  /** What was asked of it: the calls that name a session. */
  readonly calls: string[] = [];

  override openSession(client: ClientName): Promise<SessionId> {
    this.refusedSessions -= 1;
    return this.refusedSessions >= 0
      ? Promise.reject(new Error('connection lost'))
      : super.openSession(client);
  }

  override heartbeat(...args: Parameters<FakeStore['heartbeat']>): Promise<HeartbeatResult> {
    this.calls.push('heartbeat');
    return super.heartbeat(...args);
  }

  override readClient(...args: Parameters<FakeStore['readClient']>): Promise<StreamEntry[]> {
    this.calls.push('read');
    return super.readClient(...args);
  }

  override async append(append: Append): Promise<AppendResult> {
    const fault = this.faults.shift();
    if (typeof fault === 'string') return fault;
    const result = await super.append(append);
    if (fault) throw fault;
    return result;
  }
}

let clock: ManualClock;
let model: RedisModel;
let store: FaultyStore;
let log: ReturnType<typeof createWatchedLog>;
let moved: number;
let chance: number;
const received = { current: createWatch<Message>() };
let mailbox: Mailbox;

beforeEach(() => {
  clock = createManualClock();
  model = new RedisModel(() => clock.monotonicMs());
  store = new FaultyStore(model);
  log = createWatchedLog();
  moved = 0;
  chance = 0.5;
  received.current = createWatch<Message>();
  mailbox = new Mailbox({
    store,
    clock,
    log,
    client,
    register: (session) => [{ type: 'RegisterFramework', framework: frameworkInfo('f1'), session }],
    onMessages: (messages) => {
      for (const message of messages) received.current.push(message);
    },
    onMoved: () => {
      moved += 1;
    },
    random: () => chance,
  });
});

afterEach(async () => {
  mailbox.stop();
  await store.close();
  await mailbox.stopped();
});

/** Types of the messages of each entry of the inbox, by session: `s1 RegisterFramework ReviveOffers`. */
function inbox(): string[] {
  const names = new Map<string, string>();
  return model.readInbox(START, 1000).map(({ session, messages }) => {
    const name = names.get(session) ?? `s${String(names.size + 1)}`;
    names.set(session, name);
    const types = (JSON.parse(messages) as Message[]).map(({ type }) => type);
    return [name, ...types].join(' ');
  });
}

/** As the master does on a registration, and sends these messages. */
function master(session: SessionId, ...messages: string[]): void {
  const lease = model.acquireLease(masterIdOf('m1'), 1_000_000_000);
  if (!lease) throw new Error('somebody else leads');
  model.beginTerm(lease);
  const { commitNumber } = model.loadSnapshot();
  const sends = messages.map((text) => ({ client, session, messages: text }) as const);
  model.commit(commitOf(lease, commitNumber + 1, { sessions: [{ client, session }], sends }));
}

describe('a session', () => {
  test('is asked for until there is one; until then nothing is read and no heartbeat sent', async () => {
    store.refusedSessions = 3;
    mailbox.start();
    mailbox.send(revive);
    await clock.pass(188 + 375 + 749);
    expect([inbox(), store.calls]).toEqual([[], []]);
    await clock.pass(1);
    expect(inbox()).toEqual(['s1 RegisterFramework ReviveOffers']);
    expect(log.lines.seen.map(({ event, fields }) => [event, fields['retryMs']])).toEqual([
      ['session.open-failed', 188],
      ['session.open-failed', 375],
      ['session.open-failed', 750],
    ]);
  });

  test('that nobody will ever open does not hold up the end', async () => {
    store.refusedSessions = Infinity;
    mailbox.start();
    await clock.pass(60_000);
    mailbox.stop();
    await mailbox.stopped();
    await mailbox.flushed();
    expect([inbox(), store.calls]).toEqual([[], []]);
  });

  test('that follows another is the later one', async () => {
    mailbox.start();
    await mailbox.flushed();
    const before = mailbox.session;
    await clock.pass(5000);
    expect(sessionNumber(before)).toBeGreaterThan(0);
    expect(isOlderSession(before, mailbox.session)).toBe(true);
  });

  test('that is over says nothing more, while the next one is not open', async () => {
    mailbox.start();
    await mailbox.flushed();
    store.refusedSessions = 1;
    await clock.pass(5000);
    mailbox.send(revive);
    await clock.pass(187);
    expect(inbox()).toEqual(['s1 RegisterFramework']);
    await clock.pass(1);
    expect(inbox()).toEqual(['s1 RegisterFramework', 's2 RegisterFramework ReviveOffers']);
  });
});

describe('what is sent', () => {
  test('comes after the registration, and what is sent in one turn is one entry', async () => {
    mailbox.start();
    mailbox.send(revive);
    mailbox.send(suppress, revive);
    await mailbox.flushed();
    mailbox.send(suppress);
    await mailbox.flushed();
    expect(inbox()).toEqual([
      's1 RegisterFramework ReviveOffers SuppressOffers ReviveOffers',
      's1 SuppressOffers',
    ]);
  });

  test('arrives once, although the reply was lost', async () => {
    store.faults.push(new Error('connection lost'));
    mailbox.start();
    mailbox.send(revive);
    await clock.pass(250);
    expect(inbox()).toEqual(['s1 RegisterFramework ReviveOffers']);
    expect(log.lines.seen[0]).toMatchObject({
      event: 'inbox.append-failed',
      fields: { retryMs: 188 },
    });
  });

  test('waits while the inbox is full', async () => {
    store.faults.push('full', 'full');
    mailbox.start();
    await clock.pass(188 + 374);
    expect(inbox()).toEqual([]);
    await clock.pass(1);
    expect(inbox()).toEqual(['s1 RegisterFramework']);
  });

  test('goes into a new session, behind a new registration, if the store has lost the old one', async () => {
    mailbox.start();
    await mailbox.flushed();
    store.faults.push('gap');
    mailbox.send(revive);
    await clock.pass(0);
    expect(inbox()).toEqual(['s1 RegisterFramework', 's2 RegisterFramework ReviveOffers']);
  });

  test('after the stop is not sent', async () => {
    mailbox.start();
    await mailbox.flushed();
    mailbox.stop();
    mailbox.send(revive);
    await mailbox.flushed();
    expect(inbox()).toEqual(['s1 RegisterFramework']);
  });
});

describe('a retry', () => {
  const pauses = (): unknown[] => log.lines.seen.map(({ fields }) => fields['retryMs']);

  test('comes later each time, up to five seconds, and soon again after a success', async () => {
    chance = 0.999_999;
    store.faults.push(...Array.from({ length: 7 }, () => new Error('connection lost')));
    mailbox.start();
    await clock.pass(30_000);
    expect(pauses()).toEqual([250, 500, 1000, 2000, 4000, 5000, 5000]);
    store.faults.push(new Error('connection lost'));
    mailbox.send(revive);
    await clock.pass(250);
    expect(pauses().at(-1)).toBe(250);
  });

  test('comes after half of that at the earliest', async () => {
    chance = 0;
    store.faults.push(new Error('connection lost'), new Error('connection lost'));
    mailbox.start();
    await clock.pass(1000);
    expect(pauses()).toEqual([125, 250]);
  });
});

describe('what is received', () => {
  test('comes in order, and what is no message is left out', async () => {
    mailbox.start();
    await mailbox.flushed();
    master(mailbox.session, '[{"type":"Nonsense"}]', JSON.stringify([revive, suppress]));
    await received.current.count(2);
    expect(received.current.seen).toEqual([revive, suppress]);
    expect(log.lines.seen).toMatchObject([
      { event: 'message.bad', fields: { code: 'unknown-type' } },
    ]);
  });
});

describe('a heartbeat', () => {
  test.each([
    [0, 4000],
    [0.999_999, 6000],
  ])('comes a fifth sooner or later, by chance %d after %d ms', async (drawn, afterMs) => {
    chance = drawn;
    mailbox.start();
    await mailbox.flushed();
    master(mailbox.session);
    const beats = (): number => store.calls.filter((call) => call === 'heartbeat').length;
    await clock.pass(afterMs - 1);
    expect(beats()).toBe(0);
    await clock.pass(1);
    expect(beats()).toBe(1);
  });

  test('that is answered `ok` changes nothing', async () => {
    mailbox.start();
    await mailbox.flushed();
    master(mailbox.session);
    await clock.pass(60_000);
    expect(inbox()).toEqual(['s1 RegisterFramework']);
  });

  test('that is answered `unknown` makes it register again, in a new session', async () => {
    mailbox.start();
    await mailbox.flushed();
    const before = mailbox.session;
    await clock.pass(5000);
    expect(inbox()).toEqual(['s1 RegisterFramework', 's2 RegisterFramework']);
    expect(mailbox.session).not.toBe(before);
  });

  test('that is answered `unknown` after the last words registers nobody again', async () => {
    mailbox.start();
    await mailbox.flushed();
    await mailbox.sendLast(suppress);
    await clock.pass(60_000);
    expect(inbox()).toEqual(['s1 RegisterFramework', 's1 SuppressOffers']);
  });

  test('that is answered `moved` ends it, if it has been registered', async () => {
    mailbox.start();
    await mailbox.flushed();
    master(mailbox.session, JSON.stringify([revive]));
    await received.current.count(1);
    master(sessionOf('z-of-another'));
    await clock.pass(5000);
    expect(moved).toBe(1);
    mailbox.send(revive);
    expect(inbox()).toEqual(['s1 RegisterFramework']);
  });

  test('that is answered `moved` before the master has answered makes it register again', async () => {
    master(sessionOf('of-before'));
    mailbox.start();
    await clock.pass(5000);
    expect([moved, inbox().length]).toEqual([0, 2]);
  });
});

describe('a user of Redis that may not say anything', () => {
  const forbidden = new Error('NOPERM No permissions to access a key');

  function forbiddenTo(onForbidden?: (error: unknown) => void): Mailbox {
    mailbox = new Mailbox({
      ...{ store, clock, log, client, onMoved: () => undefined, random: () => chance },
      register: () => [revive],
      onMessages: () => undefined,
      ...(onForbidden && { onForbidden }),
    });
    return mailbox;
  }

  test('is told, and not tried again', async () => {
    const told = createWatch<unknown>();
    store.faults.push(forbidden, forbidden);
    forbiddenTo((error) => told.push(error)).start();
    expect(await told.first(Boolean)).toBe(forbidden);
    await clock.pass(60_000);
    expect([told.seen.length, store.faults.length]).toEqual([1, 1]);
  });

  test('is tried again if it was heard before, and where nobody asks to be told', async () => {
    const told = createWatch<unknown>();
    forbiddenTo((error) => told.push(error)).start();
    await mailbox.flushed();
    const before = inbox().length;
    store.faults.push(forbidden);
    mailbox.send(suppress);
    await clock.pass(1000);
    await mailbox.flushed();
    expect([told.seen, inbox().length]).toEqual([[], before + 1]);
  });
});
