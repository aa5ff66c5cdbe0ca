/** systemd reads its units again, `daemon-reload` and `daemon-reexec`, while commands wait to be executed: what they get all the same. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { TaskStatus } from '../../protocol/task.ts';
import { isSafeArgument, isSafeDirectory } from '../../systemd/reread.ts';
import { type RunningAgent, startAgentOn } from '../beds/agents.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';
import { unitSpec } from '../beds/unit-specs.ts';

const reason = bedReason('systemd');
const suite = reason === undefined ? describe : describe.skip;

/** Each ASCII character but NUL alone, within and at both ends of a text, and what means something together. */
const TEXTS = [
  ...Array.from({ length: 127 }, (_item, index) => String.fromCharCode(index + 1)),
  ...['', 'Grüße 🦊', '\\n', '\\$', '\\;', '${HOME}', '$$', '%n%%', '\\\n', '\u0085', '\u2028'],
].flatMap((text) => [text, `a${text}b`, `${text}b`, `a${text}`]);

/** Its own command line and environment, as the kernel has them. */
const SHOW = ['/bin/sh', '-c', 'cat /proc/$$/cmdline /proc/$$/environ'];
const SHOW_SAFE = ['/bin/cat', '/proc/self/cmdline', '/proc/self/environ'];

suite(`commands and reloads${reason === undefined ? '' : ` (${reason})`}`, () => {
  let bed: SystemdBed;
  let agent: RunningAgent | undefined;
  beforeAll(async () => {
    bed = await startSystemdBed();
  }, 120_000);
  afterEach(async () => {
    await agent?.stop();
    agent = undefined;
  });
  afterAll(() => bed.stop(), 120_000);

  const reloadUntil = async (done: Promise<unknown>, verb: string): Promise<number> => {
    let isDone = false;
    void done.finally(() => {
      isDone = true;
    });
    let count = 0;
    for (; !isDone; count += 1) {
      try {
        bed.run('systemctl', verb);
      } catch (error) {
        // While process 1 executes itself anew nobody answers.
        if (!/Failed to reload|reply|connect|disconnect|closed/i.test(String(error))) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 5 + ((count * 7) % 20)));
    }
    return count;
  };

  test.each(['daemon-reload', 'daemon-reexec'])(
    'a hundred commands that wait during %s are executed byte for byte',
    async (verb) => {
      const started = await startAgentOn(bed, verb);
      agent = started;
      const place = join(bed.directory, 'w $x\nUser=nobody');
      mkdirSync(place, { recursive: true });
      const size = Math.ceil(TEXTS.length / 50);
      const tasks = Array.from({ length: 100 }, (_item, index) => {
        const words = TEXTS.slice((index % 50) * size, (index % 50) * size + size);
        const argv = index % 3 === 0 ? SHOW_SAFE : [...SHOW, ...words];
        const environment = Object.fromEntries(words.map((text, at) => [`V${String(at)}`, text]));
        const directory = index % 5 === 0 ? { workingDirectory: place } : {};
        return { argv, environment, ...directory };
      });
      const ends = Promise.all(
        tasks.map(async (command, index) => {
          const launchId = `1.1.${String(index + 1)}`;
          const name = `line\n${TEXTS[index] ?? ''}\\`;
          started.hub.run(launchId, `t${String(index)}`, { name, command });
          const end = (state: 'TASK_FINISHED' | 'TASK_FAILED'): Promise<TaskStatus> =>
            started.hub.status(launchId, state);
          return Promise.race([end('TASK_FINISHED'), end('TASK_FAILED')]);
        }),
      );
      expect(await reloadUntil(ends, verb)).toBeGreaterThan(5);
      for (const [index, { state, certificate }] of (await ends).entries()) {
        expect(state).toBe('TASK_FINISHED');
        const { argv = [], environment = {} } = tasks[index] ?? {};
        const shown = argv.map((word) => `${word}\0`).join('');
        const output = certificate?.stdoutTail ?? '';
        expect(output.slice(0, shown.length)).toBe(shown);
        const variables = output.slice(shown.length).split('\0');
        const pairs = Object.entries(environment).map((pair) => pair.join('='));
        expect(variables).toEqual(expect.arrayContaining(pairs));
        expect(output).not.toContain('PWD=');
      }
    },
    120_000,
  );

  test('what is told to systemd as it is is read back by it as it was', async () => {
    const safe = TEXTS.filter(isSafeArgument);
    const environment = Object.fromEntries(TEXTS.map((text, at) => [`V${String(at)}`, text]));
    const place = join(bed.directory, 'a.b-c_d+e=f,g:h@i~j');
    const spec = unitSpec('reread', ['/bin/sleep', '1000', ...safe], {
      environment,
      workingDirectory: place,
      description: 'a\nUser=nobody\\',
      stdoutPath: join(bed.directory, 'out "put" %n'),
    });
    expect([isSafeDirectory(place), safe.length > 200]).toEqual([true, true]);
    // It has begun and ended long ago: only what is written in its file matters.
    mkdirSync(place);
    const told = { ...spec, argv: ['/bin/sh', ...safe] };
    const show = (): string =>
      bed.run(
        'systemctl',
        'show',
        ...[
          'ExecStart',
          'Environment',
          'WorkingDirectory',
          'StandardOutput',
          'Description',
          'User',
        ].map((name) => `--property=${name}`),
        told.name,
      );
    await bed.systemd.startUnit(told);
    const before = show();
    bed.run('systemctl', 'daemon-reload');
    const withoutTimes = (text: string): string => text.replace(/ ; ignore_errors=.*/g, '');
    expect(withoutTimes(show())).toBe(withoutTimes(before));
    expect(before).toContain('User=\n');
    expect(before).toContain('Description=a User=nobody\n');
    await bed.systemd.releaseUnit(told.name);
    // The inside has the /tmp of the outside.
    rmSync(join(bed.inside.root, place), { recursive: true });
  }, 120_000);
});
