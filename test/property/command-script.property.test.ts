/** Commands that go through a script of sh: run for real, they arrive byte for byte. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { planCommand, type Command, type PlannedCommand } from '../../agent/command-script.ts';
import { notExecutedLine } from '../../agent/core/not-executed.ts';

const LAUNCH = '1.1.1';
const BASE = { PATH: '/usr/bin:/bin', HOME: '/root' };
const RUNS = { numRuns: 150 };

let directory: string;
let work: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-script-'));
  work = join(directory, 'work');
  mkdirSync(work);
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** Everything but NUL; what shells and systemd look at comes often. */
const anyText = fc
  .array(
    fc.oneof(
      fc.constantFrom(...'\'"\\$`;&|<>(){}[]*?!#~%^=-+ \t\n\r\x01\x1b\x7fÁ\u0081\u0088🦊ab'),
      fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join('').replaceAll('\0', ''));
const anyName = fc.oneof(
  fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,6}$/),
  fc.constantFrom('IFS', 'PWD', 'OLDPWD', 'PPID', 'OPTIND', 'SHLVL', '_', 'PS4', 'UID', 'ENV'),
  fc.constantFrom('SHELLOPTS', 'BASHOPTS', 'BASH_ENV', 'BASH_VERSION', 'LINENO', 'RANDOM'),
);
// The loader of the programs obeys these.
const anyEnvironment = fc
  .dictionary(anyName, anyText, { maxKeys: 8, noNullPrototype: true })
  .map((environment) => ({ ...environment, ...BASE }));

function plan(command: Partial<Command>): PlannedCommand {
  const whole = { argv: ['true'], environment: BASE, workingDirectory: work, ...command };
  const place = { launchId: LAUNCH, scriptPath: join(directory, 'command'), safeDirectory: work };
  return planCommand(whole, place);
}

/** As systemd would: the environment that it is told, and nothing else. */
function run(planned: PlannedCommand): { bytes: string; stderr: string; status: number | null } {
  if (planned.script !== undefined) writeFileSync(join(directory, 'command'), planned.script);
  const [program = '', ...args] = planned.argv;
  const { environment: env, workingDirectory: cwd } = planned;
  const { stdout, stderr, status } = spawnSync(program, args, { env, cwd });
  return { bytes: stdout.toString(), stderr: stderr.toString(), status };
}

test('every argument arrives as it is', () => {
  fc.assert(
    fc.property(fc.array(anyText, { minLength: 1, maxLength: 6 }), (words) => {
      const { bytes } = run(plan({ argv: ['/usr/bin/printf', '%s\\0', ...words] }));
      expect(bytes.split('\0').slice(0, -1)).toEqual(words);
    }),
    RUNS,
  );
});

test('every variable arrives as it is, and none comes with it', () => {
  fc.assert(
    fc.property(anyEnvironment, fc.boolean(), (environment, isLarge) => {
      const large = isLarge ? { LARGE: 'x'.repeat(70_000) } : {};
      const all = { ...environment, ...large };
      // A program with a dollar in it goes through the script, whatever else does.
      const program = join(directory, '$env');
      symlinkTo('/usr/bin/env', program);
      const { bytes } = run(plan({ argv: [program, '-0'], environment: all }));
      const pairs = bytes.split('\0').slice(0, -1);
      expect(pairs.sort()).toEqual(
        Object.entries(all)
          .map((pair) => pair.join('='))
          .sort(),
      );
    }),
    RUNS,
  );
});

test.each(['$p', 'a=b', '-x', '-x=y', "it's", 'two words', 'line\nbreak', 'Grüße'])(
  'a program named %j is found in the PATH of the task and executed',
  (name) => {
    const path = join(directory, 'bin');
    mkdirSync(path, { recursive: true });
    symlinkTo('/usr/bin/printf', join(path, name));
    for (const more of [{}, { IFS: 'x' }]) {
      const environment = { ...BASE, PATH: path, ...more };
      expect(run(plan({ argv: [name, '%s|', 'a', '$b'], environment }))).toEqual({
        bytes: 'a|$b|',
        stderr: '',
        status: 0,
      });
    }
  },
);

test('a working directory of any name is entered', () => {
  const place = join(directory, 'a $b\n\\');
  mkdirSync(place, { recursive: true });
  const { bytes } = run(plan({ argv: ['/usr/bin/pwd', '-P'], workingDirectory: place }));
  expect(bytes).toBe(`${place}\n`);
});

test('what systemd can be trusted with is left as it is', () => {
  const command = {
    argv: ['/usr/bin/make', '-C', 'a b', '', '{x,y}', 'ü', 'A=1', '-j2'],
    environment: { A: '$x;\'"\\%\n', HOME: '/root' },
    workingDirectory: '/srv/data.d',
  };
  expect(plan(command)).toEqual(command);
  expect(plan({ ...command, argv: ['make'] }).script).toBeUndefined();
});

test.each<[string, Partial<Command>]>([
  ['a bare program and a PATH of its own', { argv: ['make'] }],
  ['a dollar', { argv: ['/bin/echo', '$HOME'] }],
  ['a semicolon', { argv: ['/bin/echo', ';'] }],
  ['a program with a blank', { argv: ['/opt/a b'] }],
  ['a directory with a line break', { workingDirectory: '/tmp\nUser=root' }],
  ['more arguments than a line of systemd has room for', { argv: ['/bin/x', 'ü'.repeat(99_999)] }],
])('a command with %s goes through a script', (_what, more) => {
  const environment = { PATH: '/bin' };
  const planned = plan({ argv: ['/bin/true'], environment, ...more });
  expect(planned.argv).toEqual(['/bin/sh', join(directory, 'command')]);
  expect(planned.workingDirectory).toBe(work);
});

describe.each(['/bin/sh', '/bin/bash'])('a command that cannot be executed by %s', (shell) => {
  const fails = (command: Partial<Command>): ReturnType<typeof run> => {
    const planned = plan(command);
    // As sh: bash behaves otherwise under its own name.
    const sh = join(directory, 'sh');
    symlinkTo(shell, sh);
    return run({ ...planned, argv: [sh, ...planned.argv.slice(1)] });
  };

  test.each<[string, Partial<Command>, number]>([
    ['is not there', { argv: ['/no/such/$program'] }, 127],
    ['is not in the PATH', { argv: ['no-such-$program'] }, 127],
    ['is no program', { argv: ['/etc/passwd', '$'] }, 126],
    ['is to be in a directory that is not there', { workingDirectory: '/no $uch' }, 200],
  ])('because it %s ends with the line of its launch', (_why, command, status) => {
    const ended = fails(command);
    expect(ended.status).toBe(status);
    expect(ended.stderr.split('\n').slice(-2)).toEqual([notExecutedLine(LAUNCH), '']);
  });

  test('is not what a command that ran and said 127 is', () => {
    const { stderr, status } = fails({ argv: ['/bin/sh', '-c', 'exit $((120 + 7))'] });
    expect({ stderr, status }).toEqual({ stderr: '', status: 127 });
  });
});

function symlinkTo(target: string, path: string): void {
  rmSync(path, { force: true });
  symlinkSync(target, path);
}
