import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { JournalLine } from '../../../agent/core/events.ts';
import { ExecutorJournals } from '../../../agent/executor-journal.ts';
import type { TaskInfo } from '../../../protocol/task.ts';
import { agentIdOf, amount, executorTask, launchIdOf, taskIdOf } from '../../support/builders.ts';
import { createWatchedLog } from '../../support/watch.ts';
import { benchWithTasks } from './executor-bench.ts';

const { executor } = benchWithTasks(['t1']);
const launch = (launchId: string, task: Partial<TaskInfo> = {}): JournalLine => ({
  ...{ type: 'launch', launchId: launchIdOf(launchId), task: executorTask('t1', 'e1', task) },
});
const update = (launchId: string, number: number, data = 'x'): JournalLine => ({
  type: 'update',
  taken: {
    update: {
      ...{ taskId: taskIdOf('t1'), launchId: launchIdOf(launchId), updateId: `u${String(number)}` },
      ...{ state: 'TASK_RUNNING', data },
    },
  },
});
const acknowledged = (launchId: string): JournalLine => ({
  ...{ type: 'acknowledged', launchId: launchIdOf(launchId) },
});

let directory: string;
let log: ReturnType<typeof createWatchedLog>;
let journals: ExecutorJournals;
const path = (): string => join(directory, 'executors', 'x1');
const events = (): string[] => log.lines.seen.map(({ event }) => event);

function open(compactBytes?: number): ExecutorJournals {
  const options = { directory, agentId: agentIdOf('a1'), log };
  return new ExecutorJournals({ ...options, ...(compactBytes !== undefined && { compactBytes }) });
}

/** What the next agent reads. */
function read(): readonly JournalLine[] {
  return open().readAll()[0]?.lines ?? [];
}

function write(...lines: readonly JournalLine[]): void {
  for (const line of lines) journals.append(executor, line);
  journals.flush();
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-journals-'));
  log = createWatchedLog();
  journals = open();
});
afterEach(() => {
  journals.close();
  rmSync(directory, { recursive: true, force: true });
});

test('lines of each kind are read as they were written, with whose they are', () => {
  const lines: JournalLine[] = [
    { type: 'registered' },
    { ...launch('k1'), groupSize: 3 } as JournalLine,
    update('k1', 1, 'two\nlines'),
    { type: 'kill', launchId: launchIdOf('k1'), by: 'operator', gracePeriodMs: 5 },
    { type: 'resize', launchId: launchIdOf('k1'), resources: amount(2, 64) },
    {
      type: 'end',
      status: {
        ...{ frameworkId: executor.framework.frameworkId, taskId: taskIdOf('t1') },
        ...{ launchId: launchIdOf('k1'), state: 'TASK_LOST', source: 'SOURCE_AGENT' },
      },
    },
    acknowledged('k1'),
  ];
  write(...lines);
  const { framework, info, launchId, unit } = executor;
  expect(open().readAll()).toMatchObject([
    { head: { agentId: 'a1', detached: false, framework, info, launchId, unit }, lines },
  ]);
  expect(statSync(path()).mode & 0o777).toBe(0o600);
});

test('lines are on disk after the flush and not before', () => {
  journals.append(executor, launch('k1'));
  expect(existsSync(path())).toBe(false);
  journals.flush();
  expect(read()).toEqual([launch('k1')]);
});

test('a journal goes on where the agent before has left it', () => {
  write(launch('k1'));
  journals.close();
  journals = open();
  write(update('k1', 1));
  expect(read()).toEqual([launch('k1'), update('k1', 1)]);
});

test('a journal that is removed is gone, with what was not written yet', () => {
  write(launch('k1'));
  journals.append(executor, update('k1', 1));
  journals.remove(executor);
  journals.flush();
  expect(readdirSync(join(directory, 'executors'))).toEqual([]);
});

test('what is added at the end is written when the agent stops', () => {
  journals.append(executor, launch('k1'));
  journals.close();
  expect(read()).toEqual([launch('k1')]);
});

describe('a line that a dying agent has not finished', () => {
  test('is left out, and spoils no other', () => {
    write(launch('k1'));
    journals.close();
    appendFileSync(path(), 'k1 update {"type":"update","tak');
    journals = open();
    expect(read()).toEqual([launch('k1')]);
    write(update('k1', 2));
    expect(read()).toEqual([launch('k1'), update('k1', 2)]);
    expect(events()).toContain('journal.bad-lines');
  });

  test('and is the first leaves no journal, and a new one is begun', () => {
    writeFileSync(path(), '{"version":1,"agentId":');
    expect(journals.readAll()).toEqual([]);
    write(launch('k1'));
    expect(read()).toEqual([launch('k1')]);
    expect(existsSync(`${path()}.bad`)).toBe(true);
  });
});

test.each([
  ['of another agent', (head: string) => head.replace('"a1"', '"a2"'), 'it is of agent a2'],
  ['of a later version', (head: string) => head.replace('"version":1', '"version":9'), 'version'],
])('a journal %s is set aside and named', (_whose, change, why) => {
  write(launch('k1'));
  writeFileSync(path(), change(readFileSync(path(), 'utf8')));
  expect(open().readAll()).toEqual([]);
  expect(readdirSync(join(directory, 'executors'))).toEqual(['x1.bad']);
  const [line] = log.lines.seen.filter(({ event }) => event === 'journal.bad');
  expect(line?.fields['error']).toContain(why);
});

test('what was left of a journal that was being written anew is removed', () => {
  write(launch('k1'));
  writeFileSync(`${path()}.0a0a.tmp`, 'half');
  expect(open().readAll()).toHaveLength(1);
  expect(readdirSync(join(directory, 'executors'))).toEqual(['x1']);
});

describe('a journal that has grown', () => {
  beforeEach(() => {
    journals = open(2000);
  });

  test('is written anew without launches whose ends are acknowledged, but for the last thousand', () => {
    for (let count = 1; count <= 6000; count += 1) {
      const launchId = `k${String(count)}`;
      write(launch(launchId), update(launchId, count), acknowledged(launchId));
    }
    write(launch('last'));
    const lines = read();
    expect(lines.at(-1)).toEqual(launch('last'));
    const over = lines.flatMap((line) => (line.type === 'acknowledged' ? [line.launchId] : []));
    expect(over.length).toBeLessThan(2500);
    expect(over.slice(-1000)).toEqual(
      Array.from({ length: 1000 }, (_, index) => `k${String(5001 + index)}`),
    );
  });

  test('keeps the last of what a task has said again and again', () => {
    write({ type: 'registered' }, launch('k1'), launch('k2', { taskId: taskIdOf('t2') }));
    write(update('k2', 1));
    for (let count = 1; count <= 3000; count += 1) {
      write(
        update('k1', count),
        { type: 'resize', launchId: launchIdOf('k1'), resources: amount(1, count) },
        { type: 'kill', launchId: launchIdOf('k1'), by: 'framework', gracePeriodMs: count },
      );
    }
    const lines = read();
    expect(lines.slice(0, 4)).toMatchObject([
      { type: 'registered' },
      { type: 'launch', launchId: 'k1' },
      { type: 'launch', launchId: 'k2' },
      { type: 'update', taken: { update: { launchId: 'k2' } } },
    ]);
    expect(lines.slice(-3)).toMatchObject([
      { taken: { update: { updateId: 'u3000' } } },
      { resources: { memMib: 3000 } },
      { gracePeriodMs: 3000 },
    ]);
    expect(lines.length).toBeLessThan(1000);
    expect(lines.filter(({ type }) => type === 'update').length).toBeGreaterThanOrEqual(101);
  });

  test('and has nothing that is over is not written anew with every line', () => {
    for (let count = 1; count <= 50; count += 1) write(launch(`k${String(count)}`));
    const before = statSync(path()).ino;
    write(launch('k51'));
    expect(statSync(path()).ino).toBe(before);
    expect(read()).toHaveLength(51);
  });

  test('goes on in the file that has the name', () => {
    const before = (): number => statSync(path()).ino;
    write(launch('k1'));
    const first = before();
    while (before() === first) write(update('k1', 1));
    write(launch('k2'));
    expect(read()).toContainEqual(launch('k2'));
  });
});

describe('while a journal cannot be written', () => {
  test('its lines are kept, and written when it can', () => {
    rmSync(join(directory, 'executors'), { recursive: true });
    write({ type: 'registered' });
    write(launch('k1'));
    expect([journals.isFailing(), journals.isFailing(launchIdOf('x1'))]).toEqual([true, true]);
    expect(events()).toEqual(['journal.failed']);
    mkdirSync(join(directory, 'executors'));
    write(update('k1', 1));
    expect([journals.isFailing(), read()]).toEqual([
      false,
      [{ type: 'registered' }, launch('k1'), update('k1', 1)],
    ]);
    expect(events()).toEqual(['journal.failed', 'journal.written']);
  });

  test('its lines are written with the next flush that can, although nothing is added', () => {
    rmSync(join(directory, 'executors'), { recursive: true });
    write(launch('k1'));
    mkdirSync(join(directory, 'executors'));
    journals.flush();
    expect(read()).toEqual([launch('k1')]);
  });

  test('because the disk is full nothing is thrown, and it is said once', () => {
    symlinkSync('/dev/full', path());
    for (let count = 1; count <= 10; count += 1) write(launch(`k${String(count)}`));
    expect(journals.isFailing(launchIdOf('x1'))).toBe(true);
    expect(events()).toEqual(['journal.failed']);
    expect(log.lines.seen[0]?.fields['error']).toContain('ENOSPC');
  });

  test('others are', () => {
    symlinkSync('/dev/full', path());
    write(launch('k1'));
    const other = { ...executor, launchId: launchIdOf('x2') };
    journals.append(other, launch('k2'));
    journals.flush();
    expect(journals.isFailing(launchIdOf('x2'))).toBe(false);
    expect(readFileSync(join(directory, 'executors', 'x2'), 'utf8')).toContain('k2 launch');
  });

  test('it can be removed all the same', () => {
    symlinkSync('/dev/full', path());
    write(launch('k1'));
    journals.remove(executor);
    expect([journals.isFailing(), existsSync(path())]).toEqual([false, false]);
  });

  test('more than fits into memory is left out, and nobody waits for it', () => {
    symlinkSync('/dev/full', path());
    const data = 'x'.repeat(60_000);
    for (let count = 1; count <= 1200; count += 1) {
      journals.append(executor, update('k1', count, data));
    }
    expect(events()).toEqual(['journal.failed', 'journal.overfull']);
    expect(journals.isFailing(launchIdOf('x1'))).toBe(false);
  });

  test('anew it goes on as it is', () => {
    journals = open(500);
    write(launch('k1'));
    const names = (): string[] => readdirSync(join(directory, 'executors'));
    expect(names()).toEqual(['x1']);
    rmSync(path());
    write(launch('k2'), launch('k3'), launch('k4'));
    expect(events()).toEqual(['journal.compact-failed']);
  });
});
