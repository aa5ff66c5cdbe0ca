import { describe, expect, test } from '@jest/globals';
import type { AgentId, OfferId, TaskId } from '../../../protocol/ids.ts';
import type { TaskState } from '../../../protocol/task-state.ts';
import type {
  HostingEffect,
  HostingEvent,
  HostingOptions,
} from '../../../schedulers/submit/core/hosting.ts';
import { createHostingState, step } from '../../../schedulers/submit/core/hosting.ts';

const id = (text: string): TaskId => text as TaskId;
const NODE = { cpuMillis: 4000, memMib: 4096 };
const REGISTERED: HostingEvent = { type: 'registered' };
const TICK: HostingEvent = { type: 'tick' };
/** What was launched before is known by then. */
const SETTLED_MS = 3000;

/** An active runner `web.f` on agent `a`; what follows from events is told in words. */
function runner(
  options: Partial<Omit<HostingOptions, 'standby'>> & { isStandbyWanted?: boolean } = {},
): {
  at: (nowMs: number, ...events: HostingEvent[]) => string[];
} {
  const { isStandbyWanted = true, ...more } = options;
  const state = createHostingState(
    {
      standby: {
        isWanted: isStandbyWanted,
        resources: { cpuMillis: 1000, memMib: 512 },
        attributes: { rack: 'r1' },
        agentId: 'a' as AgentId,
      },
      me: id('web.f'),
      family: id('web.f'),
      predecessor: undefined,
      failures: 0,
      isOver: false,
      maxRestarts: 2,
      killGraceMs: 5000,
      stopAfterMs: undefined,
      ...more,
    },
    0,
  );
  return {
    at: (nowMs, ...events) => events.flatMap((event) => step(state, event, nowMs)).flatMap(inWords),
  };
}

function inWords(effect: HostingEffect): string[] {
  switch (effect.type) {
    case 'program.start':
      return ['start'];
    case 'program.kill':
      return ['kill program'];
    case 'standby.ask':
      return [effect.isWanted ? 'ask' : 'ask for nothing'];
    case 'standby.launch':
      return [`launch ${effect.taskId} on ${effect.offer.agentId}`];
    case 'offer.decline':
      return [`decline ${effect.offerId} for ${String(effect.refuseMs)}`];
    case 'runner.kill':
      return [`kill ${effect.taskId}`];
    case 'runners.reconcile':
      return [['reconcile', ...effect.taskIds].join(' ')];
    case 'leave':
      return [`leave ${effect.how} with ${String(effect.exitCode)}`];
    case 'say':
      return [];
  }
}

const offers = (...agents: string[]): HostingEvent => ({
  type: 'offers',
  offers: agents.map((agentId) => ({
    offerId: `o-${agentId}` as OfferId,
    agentId: agentId as AgentId,
    hostname: agentId,
    resources: NODE,
    attributes: { rack: 'r1' },
  })),
  freshId: id('web.f.s1'),
});
const news = (taskId: string, state: TaskState, agentId?: string): HostingEvent => ({
  type: 'task.news',
  news: {
    taskId: id(taskId),
    state,
    agentId: agentId as AgentId | undefined,
    reason: undefined,
  },
});
const ends = (exitCode: number): HostingEvent => ({
  type: 'program.ended',
  end: { exitCode, words: `left with ${String(exitCode)}` },
});

describe('the program', () => {
  test('is started once the framework is registered, and not before', () => {
    const { at } = runner();
    expect(at(0, TICK)).toEqual([]);
    expect(at(1, REGISTERED)).toEqual(['reconcile', 'start', 'ask for nothing']);
    expect(at(2, TICK, REGISTERED)).toEqual(['reconcile', 'ask for nothing']);
  });

  test('that leaves with 0 is done: the standby is ended, and all of it is over', () => {
    const { at } = runner();
    at(0, REGISTERED, news('web.f.s0', 'TASK_RUNNING', 'b'));
    expect(at(1000, ends(0))).toEqual(['kill web.f.s0', 'leave over with 0']);
  });

  test('that fails is started again after 1 s, then 2 s, and then no more', () => {
    const { at } = runner({ isStandbyWanted: false });
    at(0, REGISTERED);
    expect(at(0, ends(7))).toEqual([]);
    expect(at(999, TICK)).toEqual([]);
    expect(at(1000, TICK)).toEqual(['start']);
    at(1000, ends(7));
    expect(at(2999, TICK)).toEqual([]);
    expect(at(3000, TICK)).toEqual(['start']);
    expect(at(3000, ends(7))).toEqual(['leave over with 7']);
  });

  test('that has worked for five minutes has as many restarts as at first', () => {
    const { at } = runner({ isStandbyWanted: false, maxRestarts: 1 });
    at(0, REGISTERED, ends(1));
    at(1000, TICK);
    expect(at(301_000, ends(1))).toEqual([]);
    expect(at(302_000, TICK)).toEqual(['start']);
    expect(at(302_001, ends(1))).toEqual(['leave over with 1']);
  });

  test('is not started again at all with no restarts', () => {
    const { at } = runner({ maxRestarts: 0 });
    at(0, REGISTERED);
    expect(at(1, ends(3))).toEqual(['leave over with 3']);
  });

  test('is killed at once when another runner has taken over', () => {
    const { at } = runner();
    at(0, REGISTERED);
    expect(at(1, { type: 'moved' }, TICK, ends(137))).toEqual([
      'kill program',
      'leave silent with 0',
    ]);
  });

  test('is killed when the driver cannot go on, and the runner has failed', () => {
    const { at } = runner();
    at(0, REGISTERED);
    expect(at(1, { type: 'failed', words: 'refused' })).toEqual([
      'kill program',
      'leave silent with 1',
    ]);
  });
});

describe('a runner that has taken over', () => {
  test('ends what is left of its predecessor', () => {
    const { at } = runner({ predecessor: id('web.f.s0') });
    expect(at(0, REGISTERED)).toEqual(['reconcile', 'kill web.f.s0', 'start', 'ask for nothing']);
  });

  test('waits before it starts what has failed on the node before', () => {
    const { at } = runner({ predecessor: id('web.f.s0'), failures: 2 });
    at(0, REGISTERED);
    expect(at(1999, TICK)).toEqual([]);
    expect(at(2000, TICK)).toEqual(['start']);
  });

  test('starts nothing that has failed on too many nodes in a row', () => {
    const { at } = runner({ predecessor: id('web.f.s0'), failures: 3, maxRestarts: 2 });
    expect(at(0, REGISTERED)).toEqual(['reconcile', 'kill web.f.s0', 'leave over with 1']);
  });

  test('starts nothing if an operator has ended its predecessor', () => {
    const { at } = runner({ predecessor: id('web.f.s0'), isOver: true });
    expect(at(0, REGISTERED)).toEqual(['reconcile', 'kill web.f.s0', 'leave over with 0']);
  });
});

describe('a runner that is ended', () => {
  const ASKED: HostingEvent = { type: 'end.asked' };
  const explained = (isWished: boolean): HostingEvent => ({ type: 'end.explained', isWished });

  test('waits for the program, and ends all of it if the cluster was asked for that', () => {
    const { at } = runner();
    at(0, REGISTERED, news('web.f.s0', 'TASK_RUNNING', 'b'));
    expect(at(1, ASKED, explained(true))).toEqual([]);
    expect(at(2, ends(143))).toEqual(['kill web.f.s0', 'leave over with 0']);
  });

  test('leaves to its standby what a node ends on its own', () => {
    const { at } = runner();
    at(0, REGISTERED, news('web.f.s0', 'TASK_RUNNING', 'b'));
    expect(at(1, ASKED, ends(0))).toEqual([]);
    expect(at(2, explained(false))).toEqual(['leave away with 0']);
  });

  test('kills a program that does not end, in time for a goodbye', () => {
    const { at } = runner();
    at(0, REGISTERED, ASKED, explained(true));
    expect(at(3499, TICK)).toEqual([]);
    expect(at(3500, TICK)).toEqual(['kill program']);
    expect(at(3501, ends(137))).toEqual(['leave over with 0']);
  });

  test('has nothing to wait for before the program was started', () => {
    const { at } = runner();
    expect(at(0, ASKED, REGISTERED, explained(false))).toEqual(['leave away with 0']);
  });
});

describe('a program that is to be held where the cluster does not answer', () => {
  const seen = (askedAtMs: number): HostingEvent => ({ type: 'registry.seen', askedAtMs });

  test('goes on while the cluster is seen', () => {
    const { at } = runner({ stopAfterMs: 15_000, isStandbyWanted: false });
    at(0, REGISTERED);
    at(14_000, seen(14_000));
    expect(at(28_999, TICK)).toEqual([]);
  });

  test('is killed after that time, and started again when the cluster is back', () => {
    const { at } = runner({ stopAfterMs: 15_000, isStandbyWanted: false });
    at(0, REGISTERED);
    expect(at(15_000, TICK)).toEqual(['kill program']);
    expect(at(15_001, ends(137), TICK)).toEqual([]);
    expect(at(60_000, seen(59_990))).toEqual(['start']);
  });

  test('is not started again beside itself', () => {
    const { at } = runner({ stopAfterMs: 15_000, isStandbyWanted: false });
    at(0, REGISTERED);
    at(15_000, TICK);
    expect(at(15_001, seen(15_000))).toEqual([]);
    expect(at(15_002, ends(137))).toEqual([]);
    expect(at(16_000, seen(15_999))).toEqual(['start']);
  });

  test('is not started again by an answer that is as old as a pause of the runner', () => {
    const { at } = runner({ stopAfterMs: 15_000, isStandbyWanted: false });
    at(0, REGISTERED);
    at(15_000, TICK, ends(137));
    expect(at(90_000, seen(15_001))).toEqual([]);
  });

  test('goes on in any case without that wish', () => {
    const { at } = runner({ isStandbyWanted: false });
    at(0, REGISTERED);
    expect(at(3_600_000, TICK)).toEqual([]);
  });
});

describe('the standby', () => {
  test('is asked for once what was launched before is known', () => {
    const { at } = runner();
    at(0, REGISTERED);
    expect(at(SETTLED_MS - 1, TICK)).toEqual([]);
    expect(at(SETTLED_MS, TICK)).toEqual(['ask']);
  });

  test('is not asked for if there is one', () => {
    const { at } = runner();
    at(0, REGISTERED, news('web.f.s0', 'TASK_RUNNING', 'b'));
    expect(at(SETTLED_MS, TICK)).toEqual([]);
  });

  test('goes onto another agent, and only one of it', () => {
    const { at } = runner();
    at(0, REGISTERED);
    at(SETTLED_MS, TICK);
    expect(at(SETTLED_MS, offers('a', 'b', 'c'))).toEqual([
      'decline o-a for 600000',
      'launch web.f.s1 on b',
      'decline o-c for 0',
      'ask for nothing',
    ]);
  });

  test('goes only onto agents that have the attributes, and room', () => {
    const { at } = runner();
    at(0, REGISTERED);
    at(SETTLED_MS, TICK);
    const [one, other] = ['b', 'c'].map((agentId) => ({
      offerId: `o-${agentId}` as OfferId,
      agentId: agentId as AgentId,
      hostname: agentId,
      resources: NODE,
      attributes: { rack: 'r1' },
    }));
    if (!one || !other) throw new Error('two offers');
    const bad = [
      { ...one, attributes: { rack: 'r2' } },
      { ...other, resources: { cpuMillis: 500, memMib: 512 } },
    ];
    expect(at(SETTLED_MS, { type: 'offers', offers: bad, freshId: id('web.f.s1') })).toEqual([
      'decline o-b for 5000',
      'decline o-c for 5000',
    ]);
  });

  test('that has failed is replaced a second later, and on another agent', () => {
    const { at } = runner();
    at(0, REGISTERED);
    at(SETTLED_MS, TICK, offers('b'));
    expect(at(4000, news('web.f.s1', 'TASK_FAILED', 'b'), TICK)).toEqual([]);
    expect(at(5000, TICK)).toEqual(['ask']);
    expect(at(5000, offers('b', 'c'))).toEqual([
      'decline o-b for 119000',
      'launch web.f.s1 on c',
      'ask for nothing',
    ]);
  });

  test('whose offer had gone is asked for at once', () => {
    const { at } = runner();
    at(0, REGISTERED);
    at(SETTLED_MS, TICK, offers('b'));
    const lost = {
      taskId: id('web.f.s1'),
      state: 'TASK_LOST',
      agentId: undefined,
      reason: 'REASON_INVALID_OFFERS',
    } as const;
    expect(at(SETTLED_MS, { type: 'task.news', news: lost })).toEqual(['ask']);
  });

  test('on a node that is cut off is replaced, and is one too many when it comes back', () => {
    const { at } = runner();
    at(0, REGISTERED);
    at(SETTLED_MS, TICK, offers('b'));
    expect(at(9000, news('web.f.s1', 'TASK_UNREACHABLE', 'b'))).toEqual(['ask']);
    expect(at(9001, news('web.f.s2', 'TASK_RUNNING', 'c'))).toEqual(['ask for nothing']);
    expect(at(9002, news('web.f.s1', 'TASK_RUNNING', 'b'))).toEqual(['kill web.f.s2']);
  });

  test('on the agent of the active runner is none', () => {
    const { at } = runner();
    expect(at(0, REGISTERED, news('web.f.s0', 'TASK_RUNNING', 'a')).slice(-1)).toEqual([
      'kill web.f.s0',
    ]);
    expect(at(SETTLED_MS, TICK)).toEqual(['ask']);
  });

  test('of an earlier submission is ended, and replaced', () => {
    const { at } = runner();
    at(0, REGISTERED);
    expect(at(1, news('web.e.s0', 'TASK_RUNNING', 'b'))).toEqual(['kill web.e.s0']);
    expect(at(SETTLED_MS, TICK)).toEqual(['ask']);
  });

  test('that the master has never heard of is forgotten', () => {
    const { at } = runner();
    at(0, REGISTERED);
    at(SETTLED_MS, TICK, offers('b'));
    expect(at(4000, REGISTERED)).toEqual(['reconcile web.f.s1', 'ask for nothing']);
    at(4001, news('web.f.s1', 'TASK_UNKNOWN'));
    expect(at(4000 + SETTLED_MS, TICK)).toEqual(['ask']);
  });

  test('is never asked for if none is wanted, and one that is there is ended', () => {
    const { at } = runner({ isStandbyWanted: false });
    at(0, REGISTERED);
    expect(at(SETTLED_MS, TICK)).toEqual([]);
    expect(at(SETTLED_MS, news('web.f.s0', 'TASK_RUNNING', 'b'))).toEqual(['kill web.f.s0']);
    expect(at(SETTLED_MS, offers('b'))).toEqual(['decline o-b for 0']);
  });
});
