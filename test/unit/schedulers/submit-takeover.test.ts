import { describe, expect, test } from '@jest/globals';
import type { TaskId } from '../../../protocol/ids.ts';
import type {
  HostRecord,
  HostView,
  TakeoverOptions,
  Verdict,
} from '../../../schedulers/submit/core/takeover.ts';
import { judge, newTakeoverMemory } from '../../../schedulers/submit/core/takeover.ts';

const NOW = 1_000_000;
const OPTIONS: TakeoverOptions = { family: 'web.f' as TaskId, stopAfterMs: undefined };
const ACTIVE: HostRecord = {
  state: 'active',
  disconnectedAtMs: undefined,
  activeId: 'web.f' as TaskId,
  activeSinceMs: NOW - 3_600_000,
  failures: 0,
};
const RUNNING: HostView['active'] = { state: 'TASK_RUNNING', reason: undefined };

function viewOf(host: Partial<HostRecord> | undefined, more: Partial<HostView> = {}): HostView {
  return {
    nowMs: NOW,
    hasLeader: true,
    recoveringUntilMs: 0,
    host: host && { ...ACTIVE, ...host },
    active: RUNNING,
    ...more,
  };
}

/** What a standby does that sees the same twice. */
function judgeTwice(view: HostView, options = OPTIONS): Verdict {
  const memory = newTakeoverMemory();
  judge(view, memory, options);
  return judge(view, memory, options);
}

const gone = (sinceMs: number): Partial<HostRecord> => ({
  state: 'disconnected',
  disconnectedAtMs: NOW - sinceMs,
});
const ended = (state: 'TASK_FAILED' | 'TASK_LOST' | 'TASK_FINISHED'): Partial<HostView> => ({
  active: { state, reason: undefined },
});

describe('a standby', () => {
  test.each<[string, HostView]>([
    ['the active runner is there', viewOf({})],
    [
      'its agent is not, while it is',
      viewOf({}, { active: { state: 'TASK_UNREACHABLE', reason: undefined } }),
    ],
    ['it has just been disconnected: it may register again', viewOf(gone(9_999))],
    ['no master leads', viewOf(gone(3_600_000), { hasLeader: false })],
    [
      'no master leads, and its task has ended',
      viewOf({}, { hasLeader: false, ...ended('TASK_LOST') }),
    ],
    [
      'Redis has lost data, and what is missing may turn up',
      viewOf(gone(60_000), { recoveringUntilMs: NOW + 1 }),
    ],
    [
      'the submitter has not handed over yet',
      viewOf({ activeId: undefined }, { active: undefined }),
    ],
    ['the framework is not known', viewOf(undefined)],
  ])('waits while %s', (_what, view) => {
    expect(judgeTwice(view)).toEqual({ action: 'wait' });
  });

  test.each<[string, HostView, string]>([
    ['has not been heard of for 10 s', viewOf(gone(10_000)), 'web.f is not heard of'],
    ['has ended', viewOf({}, ended('TASK_FINISHED')), 'web.f is TASK_FINISHED'],
    ['was lost with its node', viewOf({}, ended('TASK_LOST')), 'web.f is TASK_LOST'],
    ['is not known any more', viewOf({}, { active: undefined }), 'web.f is not known any more'],
  ])('takes over from a runner that %s', (_what, view, why) => {
    const expected = { action: 'take-over', why, predecessor: 'web.f', failures: 0, isOver: false };
    expect(judgeTwice(view)).toEqual(expected);
  });

  test('takes over nothing that it has seen once', () => {
    expect(judge(viewOf({}, ended('TASK_LOST')), newTakeoverMemory(), OPTIONS)).toEqual({
      action: 'wait',
    });
  });

  test('takes over nothing that it sees, does not see, and sees again', () => {
    const memory = newTakeoverMemory();
    const lost = viewOf({}, ended('TASK_LOST'));
    judge(lost, memory, OPTIONS);
    judge(viewOf({}), memory, OPTIONS);
    expect(judge(lost, memory, OPTIONS)).toEqual({ action: 'wait' });
  });

  test.each<[number, Verdict['action']]>([
    [69_999, 'wait'],
    [70_000, 'take-over'],
  ])(
    'waits for a program that stops after a minute without contact, and 10 s more: %i ms, %s',
    (sinceMs, action) => {
      expect(judgeTwice(viewOf(gone(sinceMs)), { ...OPTIONS, stopAfterMs: 60_000 }).action).toBe(
        action,
      );
    },
  );

  test('does not wait for the program of a runner whose task has ended', () => {
    const view = viewOf(gone(0), ended('TASK_LOST'));
    expect(judgeTwice(view, { ...OPTIONS, stopAfterMs: 60_000 }).action).toBe('take-over');
  });

  test.each<[string, HostView, number]>([
    [
      'counts a runner that has failed soon',
      viewOf({ activeSinceMs: NOW - 1000, failures: 2 }, ended('TASK_FAILED')),
      3,
    ],
    [
      'counts anew after one that has worked for long',
      viewOf({ failures: 2 }, ended('TASK_FAILED')),
      1,
    ],
    [
      'does not count a node that was lost',
      viewOf({ activeSinceMs: NOW - 1000, failures: 2 }, ended('TASK_LOST')),
      2,
    ],
    [
      'forgets failures when a runner has worked for long',
      viewOf({ failures: 2 }, ended('TASK_LOST')),
      0,
    ],
  ])('%s', (_what, view, failures) => {
    expect(judgeTwice(view)).toMatchObject({ action: 'take-over', failures });
  });

  test('takes over from a runner that an operator has ended, to end all of it', () => {
    const active = { state: 'TASK_KILLED', reason: 'REASON_KILLED_BY_OPERATOR' } as const;
    expect(judgeTwice(viewOf({}, { active }))).toMatchObject({ action: 'take-over', isOver: true });
  });

  test.each<[string, HostView]>([
    ['the program has ended', viewOf({ state: 'detached' })],
    ['another program was submitted: web.g', viewOf({ activeId: 'web.g' as TaskId })],
  ])('ends when %s', (why, view) => {
    expect(judgeTwice(view)).toEqual({ action: 'end', why });
  });

  test('ends when the framework has not been known for a minute, with a master to know it', () => {
    const memory = newTakeoverMemory();
    const seen = [0, 30_000, 60_000, 61_000].map(
      (laterMs) => judge(viewOf(undefined, { nowMs: NOW + laterMs }), memory, OPTIONS).action,
    );
    expect(seen).toEqual(['wait', 'wait', 'wait', 'end']);
  });

  test('counts that minute anew when there was no master in it', () => {
    const memory = newTakeoverMemory();
    judge(viewOf(undefined), memory, OPTIONS);
    judge(viewOf(undefined, { nowMs: NOW + 50_000, hasLeader: false }), memory, OPTIONS);
    const later = viewOf(undefined, { nowMs: NOW + 61_000 });
    judge(later, memory, OPTIONS);
    expect(judge(later, memory, OPTIONS).action).toBe('wait');
  });
});
