/** Small pure parts of the executor of processors. */
import { describe, expect, test } from '@jest/globals';
import { homeProcs } from '../../../schedulers/bullmq/core/cgroup-home.ts';
import { lastLines } from '../../../schedulers/bullmq/core/output-tail.ts';
import { writeEnd } from '../../../schedulers/bullmq/processor/task-end.ts';
import { toJson, toProcessorError } from '../../../schedulers/bullmq/processor/json.ts';

describe('the way back into the own cgroup', () => {
  const MOUNTS_V1 = [
    '31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755',
    '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct',
    '35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
    '41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw',
    '40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd',
  ].join('\n');
  const OWN_V1 = [
    '4:memory:/kaon.slice/kaon-1.slice/e1.service',
    '2:cpu,cpuacct:/kaon.slice/kaon-1.slice',
    '1:name=systemd:/kaon.slice/kaon-1.slice/e1.service',
    '0::/unified',
    '',
  ].join('\n');
  const MOUNTS_V2 = '29 22 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate';
  const OWN_V2 = '0::/kaon.slice/kaon-1.slice/e1.service/executor\n';

  test.each([
    ['memory', 'memory/kaon.slice/kaon-1.slice/e1.service'],
    ['cpu,cpuacct', 'cpu,cpuacct/kaon.slice/kaon-1.slice'],
    ['systemd', 'systemd/kaon.slice/kaon-1.slice/e1.service'],
    ['unified', 'unified/unified'],
  ])('is found in the hierarchy %s of v1', (hierarchy, home) => {
    const file = `/sys/fs/cgroup/${hierarchy}/kaon.slice/kaon-1.slice/task-t1/cgroup.procs`;
    expect(homeProcs(OWN_V1, MOUNTS_V1, file)).toBe(`/sys/fs/cgroup/${home}/cgroup.procs`);
  });

  test('is found on v2', () => {
    const unit = '/sys/fs/cgroup/kaon.slice/kaon-1.slice/e1.service';
    const file = `${unit}/task-t1/cgroup.procs`;
    expect(homeProcs(OWN_V2, MOUNTS_V2, file)).toBe(`${unit}/executor/cgroup.procs`);
  });

  test('is found where a part of the tree is mounted', () => {
    const mounts = '29 22 0:26 /kaon.slice /mnt/a\\040b rw - cgroup2 none rw';
    const home = homeProcs(OWN_V2, mounts, '/mnt/a b/x/cgroup.procs');
    expect(home).toBe('/mnt/a b/kaon-1.slice/e1.service/executor/cgroup.procs');
  });

  test.each([
    ['of a file that is no cgroup', MOUNTS_V2, '/tmp/x/cgroup.procs'],
    [
      'outside of what is mounted',
      '29 22 0:26 /other /m rw - cgroup2 none rw',
      '/m/x/cgroup.procs',
    ],
  ])('is not known %s', (_which, mounts, file) => {
    expect(homeProcs(OWN_V2, mounts, file)).toBeUndefined();
  });
});

describe('the last lines of an output', () => {
  test.each([
    ['short', 'a\nb\n', 10, 'a\nb\n'],
    ['cut where a line begins', 'aaa\nbbb\nccc\n', 9, 'bbb\nccc\n'],
    ['the end of a long line', 'a\nbbbbbb', 4, 'bbbb'],
    ['the end of a long line that is complete', 'bbbbbb\n', 4, 'bbb\n'],
  ])('are %s', (_what, text, maxChars, expected) => {
    expect(lastLines(text, maxChars)).toBe(expected);
  });
});

describe('the end of a job', () => {
  const call = (chars: number) => ({
    sequence: 1,
    call: { call: 'log' as const, rows: ['x'.repeat(chars)] },
  });

  test('is written in one', () => {
    const written = writeEnd({ outcome: '{"a":1}', calls: [call(1)], output: 'o\n' });
    expect(JSON.parse(written.ok ? written.data : '')).toEqual({
      outcome: { a: 1 },
      calls: [call(1)],
      output: 'o\n',
    });
  });

  test('that is too much has no words', () => {
    expect(writeEnd({ outcome: 'x'.repeat(30_000), calls: [call(40_000)], output: '' })).toEqual({
      ...{ ok: false, isOutcomeTooLarge: false },
    });
    expect(writeEnd({ outcome: 'x'.repeat(60_000), calls: [], output: '' })).toEqual({
      ...{ ok: false, isOutcomeTooLarge: true },
    });
  });

  test('has a part of an output that JSON makes long', () => {
    const output = '\u001b'.repeat(4000);
    const written = writeEnd({ outcome: undefined, calls: [], output });
    expect(written.ok ? written.data.length : 0).toBeLessThan(5100);
  });
});

describe('what a processor hands over', () => {
  test('is measured in bytes', () => {
    expect(toJson('ü'.repeat(500_000), 'the result')).toHaveLength(500_002);
    expect(() => toJson('ü'.repeat(600_000), 'the result')).toThrow(
      'the result is too large: 1200002 bytes of JSON, at most 1048576 are allowed',
    );
  });

  test.each([
    ['an error', new TypeError('no'), { name: 'TypeError', message: 'no' }],
    ['a word', 'no', { name: 'Error', message: 'no' }],
    ['nothing', undefined, { name: 'Error', message: 'undefined' }],
    ['a bare object', Object.create(null), { message: 'something that has no words' }],
  ])('is an error if %s was thrown', (_what, thrown, expected) => {
    expect(toProcessorError(thrown)).toMatchObject(expected);
  });
});
