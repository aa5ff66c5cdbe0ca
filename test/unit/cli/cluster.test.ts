import { describe, expect, test } from '@jest/globals';
import { wants } from '../../../cli/commands/frameworks.ts';
import { describeStatus } from '../../../cli/commands/status.ts';
import { countsOf } from '../../../io/cluster-status.ts';
import { dominantShare } from '../../../io/registry-rows.ts';
import { eventsOfEntry, formatEvent, isAbout } from '../../../cli/event-log.ts';
import { redisFactsOf } from '../../../io/redis-facts.ts';
import type { Cluster, Unreadable } from '../../../cli/registry.ts';
import { plain } from '../../../cli/style.ts';
import type { FrameworkRecord } from '../../../protocol/records.ts';

const resources = (cpuMillis: number, memMib: number): { cpuMillis: number; memMib: number } => ({
  cpuMillis,
  memMib,
});

describe('a framework', () => {
  test('has the larger of its two fractions as its dominant share', () => {
    expect(dominantShare(resources(1000, 4096), resources(10_000, 8192))).toBe(0.5);
    expect(dominantShare(resources(0, 0), resources(0, 0))).toBe(0);
  });

  test('wants what it would be offered', () => {
    const framework = (more: object): FrameworkRecord =>
      ({ state: 'active', suppressed: false, filters: [], ...more }) as unknown as FrameworkRecord;
    const demand = [{ resources: resources(500, 128), count: 3, attributes: {} }];
    expect(wants(framework({}))).toBe('anything');
    expect(wants(framework({ demand }))).toBe('3 x (0.5 cpus, 128M)');
    expect(wants(framework({ demand: [] }))).toBe('nothing');
    expect(wants(framework({ suppressed: true }))).toBe('nothing');
    expect(wants(framework({ state: 'disconnected', demand }))).toBe('nothing');
  });
});

describe('the status', () => {
  const agent = (agentId: string, state: string): unknown => ({
    info: { agentId, resources: resources(4000, 8192) },
    state,
  });
  const task = (agentId: string, state: string, more: object = {}): unknown => ({
    agentId,
    state,
    resources: resources(1000, 1024),
    ...more,
  });
  const cluster = {
    nowMs: 1000,
    cluster: [],
    agents: [agent('a1', 'active'), agent('a2', 'unreachable'), agent('a3', 'gone')],
    frameworks: [],
    offers: [],
    executors: [],
    tasks: [task('a1', 'TASK_RUNNING'), task('a1', 'TASK_FAILED'), task('a2', 'TASK_UNREACHABLE')],
  } as unknown as Cluster;

  test('compares what is used with what there is on the agents that are there', () => {
    expect(countsOf(cluster)).toMatchObject({
      agents: { active: 1, unreachable: 1, gone: 1 },
      tasks: { TASK_RUNNING: 1, TASK_UNREACHABLE: 1 },
      used: resources(1000, 1024),
      total: resources(4000, 8192),
    });
  });

  test('counts what executors hold for themselves, on the agents that are there', () => {
    const executor = (agentId: string): unknown => ({
      agentId,
      info: { resources: resources(100, 32) },
    });
    const executors = [executor('a1'), executor('a2')] as Cluster['executors'];
    expect(countsOf({ ...cluster, executors })).toMatchObject({
      executors: 2,
      used: resources(1100, 1056),
    });
  });

  test('counts the larger of old and new of a task that is being resized', () => {
    const resize = { resizeId: 'r', by: 'operator', resources: resources(500, 2048) };
    const tasks = [task('a1', 'TASK_RUNNING', { resize })] as Cluster['tasks'];
    expect(countsOf({ ...cluster, tasks }).used).toEqual(resources(1000, 2048));
  });

  test('says what it means that nobody leads', () => {
    const text = describeStatus(
      {
        cluster: 'default',
        redis: {
          url: 'redis://r',
          version: '7.0.15',
          persistence: 'append-only file',
          warnings: [],
        },
        leader: null,
        ...countsOf(cluster),
        inbox: { backlog: 500, isMore: true },
      },
      plain,
    );
    expect(text).toContain('leader      none: running tasks go on, nothing new is placed');
    expect(text).toContain('agents      1 active, 1 unreachable, 1 gone');
    expect(text).toContain('cpus        [#####---------------] 1 of 4 used (25%)');
    expect(text).toContain('inbox       more than 500 entries not read yet');
  });
});

describe('the status of a cluster in trouble', () => {
  const describe = (more: object): string =>
    describeStatus(
      {
        cluster: 'default',
        redis: { url: 'redis://r', version: '7', persistence: 'none', warnings: [] },
        leader: null,
        agents: { active: 4, silent: 0, isSilenceDoubted: false, unreachable: 0, gone: 0 },
        recovering: null,
        frameworks: {},
        tasks: {},
        executors: 0,
        offers: 0,
        used: resources(0, 0),
        offered: resources(0, 0),
        total: resources(4000, 8192),
        inbox: { backlog: 0, isMore: false },
        ...more,
      },
      plain,
    );

  test('says how long agents may still come back with what was lost', () => {
    expect(describe({ recovering: { remainingMs: 41_200 } })).toContain(
      'state       recovering after data loss, 42 s left',
    );
    expect(describe({})).not.toContain('recovering');
  });

  test('says how many active agents are silent, and whether the master believes it', () => {
    const agents = { active: 4, silent: 3, isSilenceDoubted: false, unreachable: 0, gone: 0 };
    expect(describe({ agents })).toContain('4 active (3 of them not heard of for 15s or more)');
    expect(describe({ agents: { ...agents, isSilenceDoubted: true } })).toContain(
      'or more: too many at once to believe it, so none is given up)',
    );
  });
});

describe('what is known of Redis', () => {
  const info = (aof: number, more = ''): string =>
    `# Server\r\nredis_version:7.0.15\r\naof_enabled:${String(aof)}\r\n${more}`;

  test('is its version and how it keeps data', () => {
    expect(redisFactsOf(info(1), '3600 1')).toEqual({
      version: '7.0.15',
      persistence: 'append-only file and snapshots',
      warnings: [],
    });
    expect(redisFactsOf(info(0), undefined).persistence).toBe('no append-only file');
  });

  test('includes what would cost data', () => {
    expect(redisFactsOf(info(0), '').warnings[0]).toMatch(/^a restart of this Redis forgets/);
    const evicting = 'maxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\n';
    expect(redisFactsOf(info(1, evicting), '').warnings[0]).toMatch(
      /allkeys-lru .* set noeviction$/,
    );
  });
});

describe('the event log', () => {
  const entry = JSON.stringify([
    {
      type: 'task.updated',
      atMs: 1,
      taskId: 't1',
      frameworkId: 'f1',
      state: 'TASK_FAILED',
      message: 'a\nb',
    },
    { type: 5 },
  ]);

  test('gives what can be read of an entry and notes the rest', () => {
    const unreadable: Unreadable[] = [];
    const events = eventsOfEntry('9-0', ['events', entry], unreadable);
    expect(events.map(({ id, type }) => [id, type])).toEqual([['9-0.1', 'task.updated']]);
    expect(unreadable).toHaveLength(1);
    expect(eventsOfEntry('9-1', ['events', '{'], unreadable)).toEqual([]);
    expect(unreadable).toHaveLength(2);
  });

  test('shows an event in one line', () => {
    const [event] = eventsOfEntry('9-0', ['events', entry], []);
    expect(event && formatEvent(event, plain)).toMatch(
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}9-0\.1 {14}task\.updated {11}failed {2}task=t1 framework=f1 {2}a\\nb$/,
    );
  });

  test('shows the executor that an event is about', () => {
    const event = { type: 'executor.launched', atMs: 1, agentId: 'a1', executorId: 'e1' };
    const [shown] = eventsOfEntry('9-0', ['events', JSON.stringify([event])], []);
    expect(shown && formatEvent(shown, plain)).toContain(
      'executor.launched      agent=a1 executor=e1',
    );
  });

  test('knows whether an event is about a task', () => {
    const event = { type: 'x', atMs: 1, taskId: 't1', frameworkId: 'f1' } as Parameters<
      typeof isAbout
    >[0];
    expect(isAbout(event, { frameworkId: 'f1', taskId: 't1' })).toBe(true);
    expect(isAbout(event, { frameworkId: 'f2', taskId: 't1' })).toBe(false);
    expect(isAbout(event, { prefix: 'f1/t' })).toBe(true);
    expect(isAbout({ type: 'x', atMs: 1 }, { prefix: '' })).toBe(false);
  });
});
