import { describe, expect, test } from '@jest/globals';
import { describeAgentState, pickAgent } from '../../../cli/agent-view.ts';
import { describeDifferences, describeReplayed } from '../../../cli/commands/replay.ts';
import {
  comparePositions,
  entryOf,
  formatPosition,
  parsePosition,
} from '../../../protocol/event-position.ts';
import type { EventPosition } from '../../../protocol/event-position.ts';
import { momentOf, placeOf } from '../../../cli/flags.ts';
import {
  parseEventsOptions,
  parseReplayOptions,
  parseRunOptions,
} from '../../../cli/parse-options.ts';
import { plain } from '../../../cli/style.ts';
import type { AgentRecord, ClusterEvent } from '../../../protocol/records.ts';
import { applyEvent, compareProjections, emptyProjection } from '../../../protocol/replay.ts';
import { agentIdOf, agentInfo, amount, frameworkIdOf } from '../../support/builders.ts';
import { executorIdOf, launchIdOf, sessionOf, taskIdOf } from '../../support/builders.ts';

const connection = { redis: 'redis://r', cluster: 'c' };

function position(text: string): EventPosition {
  const found = parsePosition(text);
  if (!found) throw new Error(`not a place: ${text}`);
  return found;
}

describe('a place in the event log', () => {
  test('is an entry, or one event of an entry', () => {
    expect(formatPosition(position('1795200792000-0'))).toBe('1795200792000-0');
    expect(formatPosition(position('1795200792000-3.12'))).toBe('1795200792000-3.12');
    expect(entryOf(position('17-3.12'))).toBe('17-3');
    expect(parsePosition('17')).toBeUndefined();
    expect(parsePosition('17-1.x')).toBeUndefined();
  });

  test('is after every event before it, and a whole entry after all of its events', () => {
    const texts = ['9-0.1', '9-0.2', '9-0.10', '9-0', '9-1.1', '10-0.1'];
    const sorted = [...texts].reverse().map(position).sort(comparePositions);
    expect(sorted.map(formatPosition)).toEqual(texts);
    expect(comparePositions(position('9-0'), position('9-0'))).toBe(0);
  });
});

describe('--at takes', () => {
  const at = (value: string): unknown => momentOf({ flag: '--at', value });

  test('a time ago, a time, and an id', () => {
    expect(at('10m')).toEqual({ agoMs: 600_000 });
    expect(at('1795200792000')).toEqual({ atMs: 1_795_200_792_000 });
    expect(at('2026-11-20T18:53:12Z')).toEqual({ atMs: Date.UTC(2026, 10, 20, 18, 53, 12) });
    expect(at('2026-11-20 18:53')).toEqual({ atMs: new Date(2026, 10, 20, 18, 53).getTime() });
    expect(at('2026-11-20')).toEqual({ atMs: new Date(2026, 10, 20).getTime() });
    expect(at('9-0.2')).toEqual({ after: { ms: 9, sequence: 0, index: 2 } });
  });

  test.each(['', 'yesterday', '2026-13-01', '2026-11-20T25:00', '18:53'])('not %p', (value) => {
    expect(() => at(value)).toThrow('not a moment; write 10m (ago)');
  });

  test('nothing: now', () => {
    expect(parseReplayOptions({}, connection)).not.toHaveProperty('at');
  });
});

describe('kaon events', () => {
  test('goes on after an id, by either flag, but not by both', () => {
    const after = { ms: 17, sequence: 3, index: 2 };
    expect(parseEventsOptions({ from: '17-3.2' }, connection).since).toEqual({ after });
    expect(parseEventsOptions({ since: '17-3.2' }, connection).since).toEqual({ after });
    expect(() => parseEventsOptions({ from: '17-3', since: '1h' }, connection)).toThrow(
      '--since and --from do not go together',
    );
    expect(() => placeOf({ flag: '--from', value: '1h' })).toThrow('not an id of an event');
  });
});

describe('kaon run', () => {
  test('says what becomes of the task when its node is cut off', () => {
    expect(parseRunOptions({}, connection).whenUnreachable).toBe('keep');
    const stop = parseRunOptions({ whenUnreachable: 'stop:5m' }, connection);
    expect(stop.whenUnreachable).toEqual({ stopAfterMs: 300_000 });
  });

  test.each([
    ['stop', 'not keep, or stop:DURATION'],
    ['stop:', 'not a duration'],
    ['stop:14s', 'too short; the minimum is 15s'],
    ['never', 'not keep, or stop:DURATION'],
  ])('refuses --when-unreachable %s', (whenUnreachable, problem) => {
    expect(() => parseRunOptions({ whenUnreachable }, connection)).toThrow(
      `--when-unreachable ${whenUnreachable}: ${problem}`,
    );
  });

  test('runs nothing exclusive more than once', () => {
    expect(parseRunOptions({ exclusive: true }, connection).exclusive).toBe(true);
    expect(() => parseRunOptions({ exclusive: true, instances: '2' }, connection)).toThrow(
      '--exclusive and --instances do not go together',
    );
  });
});

describe('an agent', () => {
  const record = (agentId: string, hostname: string, more: object = {}): AgentRecord => ({
    info: agentInfo(agentId, { hostname }),
    newestSession: sessionOf('s1'),
    node: 'n',
    state: 'active',
    registeredAtMs: 1,
    writtenOff: [],
    ...more,
  });
  const agents = [record('n1.ab', 'n1'), record('n10.cd', 'n10'), record('x.ef', 'db')];

  test.each([
    ['n1.ab', 'n1.ab'],
    ['n1', 'n1.ab'],
    ['n10', 'n10.cd'],
    ['db', 'x.ef'],
    ['x', 'x.ef'],
  ])('is found by %s', (asked, agentId) => {
    expect(pickAgent(asked, agents).info.agentId).toBe(agentId);
  });

  test('that is not there, or may be several, is an error that says so', () => {
    expect(() => pickAgent('n', agents)).toThrow(
      expect.objectContaining({ code: 'ambiguous', message: expect.stringContaining('2 agents') }),
    );
    for (const asked of ['', 'z']) {
      expect(() => pickAgent(asked, agents)).toThrow(
        expect.objectContaining({ code: 'not-found' }),
      );
    }
  });

  test('says since when it is away', () => {
    const away = { state: 'unreachable', awaySinceMs: 1000 };
    expect(describeAgentState(record('a', 'h', away), 61_000)).toBe('unreachable for 1m');
    expect(describeAgentState(record('a', 'h'), 0)).toBe('connecting');
    const there = { session: sessionOf('s1'), deactivatedAtMs: 5 };
    const drain = { fromMs: 10_000, answers: {} };
    expect([
      describeAgentState(record('a', 'h', there), 0),
      describeAgentState(record('a', 'h', { ...there, drain }), 0),
      describeAgentState(record('a', 'h', { ...there, drain }), 10_000),
    ]).toEqual(['deactivated', 'active, deactivated, drained in 10s', 'draining, deactivated']);
    expect(describeAgentState(record('a', 'h', { session: sessionOf('s1') }), 0)).toBe('active');
  });
});

describe('a replayed cluster', () => {
  const [agentId, frameworkId] = [agentIdOf('a1'), frameworkIdOf('f1')];
  const task = { frameworkId, taskId: taskIdOf('t1'), agentId } as const;
  const events: ClusterEvent[] = [
    { type: 'agent.registered', atMs: 1, agentId, name: 'node1', resources: amount(4, 8192) },
    { type: 'framework.registered', atMs: 1, frameworkId, name: 'shop', role: '*' },
    {
      type: 'task.launched',
      atMs: 2,
      ...task,
      launchId: launchIdOf('1.t.1'),
      name: 'web',
      state: 'TASK_STAGING',
      resources: amount(1, 128),
    },
    { type: 'task.updated', atMs: 3, ...task, state: 'TASK_RUNNING', unacknowledged: 1 },
    { type: 'task.kill-requested', atMs: 4, ...task, reason: 'operator' },
    { type: 'cluster.recovering', atMs: 5 },
    { type: 'agent.disconnected', atMs: 5, agentId },
    { type: 'task.refused', atMs: 5, frameworkId, taskId: taskIdOf('t9'), state: 'TASK_ERROR' },
    { type: 'agents.silence-doubted', atMs: 5 },
  ];
  const projection = emptyProjection();
  for (const event of events) applyEvent(projection, event);

  test('is shown as it was, with what the events say of it', () => {
    const table = { width: undefined, paint: plain };
    const replayed = { projection, snapshotMs: 0, eventCount: 9, last: '5-0.4' };
    const lines = describeReplayed(5, replayed, table).split('\n');
    expect(lines[0]).toMatch(/, after event 5-0\.4 \(the snapshot of .* and 9 events since\)$/);
    expect(lines[1]).toMatch(/^recovering after a loss of data: /);
    expect(lines).toEqual(
      expect.arrayContaining([
        'agents: 1',
        'a1  node1  active, not connected     4   8G      1',
        'offers: none',
        'tasks: 1',
        'f1/t1  web   running  a1        1  128M  kill requested by operator; 1 update not acknowledged',
      ]),
    );
  });

  test('is shown with its executors, and what is wished for their tasks', () => {
    const executorId = executorIdOf('e1');
    const launchId = launchIdOf('1.t.0');
    const executor = { agentId, frameworkId, executorId, launchId };
    const first = { ...task, launchId: launchIdOf('1.t.1'), executorId, name: 'web' };
    const resources = amount(1, 128);
    const seen = emptyProjection();
    for (const event of [
      { type: 'executor.launched', ...executor, name: 'runner', resources: amount(0.1, 32) },
      { type: 'task.launched', ...first, state: 'TASK_RUNNING' as const, resources },
      { type: 'task.resize-requested', ...task, resources: amount(2, 256), reason: 'r1' },
    ]) {
      applyEvent(seen, { atMs: 1, ...event });
    }
    const table = { width: undefined, paint: plain };
    const replayed = { projection: seen, snapshotMs: 0, eventCount: 3, last: '1-0.3' };
    expect(describeReplayed(1, replayed, table).split('\n')).toEqual(
      expect.arrayContaining([
        'executors: 1',
        'a1/f1/e1  runner   0.1  32M',
        'f1/t1  web   running  a1        1  128M  of executor e1; to have 2 cpus, 256M',
      ]),
    );
    applyEvent(seen, { type: 'executor.removed', atMs: 2, ...executor });
    applyEvent(seen, { type: 'task.resized', atMs: 2, ...task, resources: amount(2, 256) });
    const then = describeReplayed(2, replayed, table);
    expect(then).not.toContain('executors:');
    expect(then).toContain('f1/t1  web   running  a1        2  256M  of executor e1\n');
  });

  test('is compared entry by entry with another', () => {
    const other = emptyProjection();
    for (const event of events.slice(0, 4)) applyEvent(other, event);
    const differences = compareProjections(projection, other);
    expect(differences.map(({ kind, id }) => `${kind} ${id}`)).toEqual([
      'cluster state',
      'agents a1',
      'tasks f1/t1',
    ]);
    expect(describeDifferences(differences, plain)).toMatch(
      /^does not agree: 3 differences between the event log and the registry\n {2}cluster state\n/,
    );
    expect(describeDifferences(compareProjections(other, other), plain)).toBe(
      'agrees: the event log and the registry say the same\n',
    );
  });
});
