import { describe, expect, test } from '@jest/globals';
import { describeFailure, exitCodeFor, usageError } from '../../../cli/failure.ts';
import { createProgram } from '../../../cli/program.ts';
import { KaonError } from '../../../protocol/errors.ts';

/** What the program writes, and how it ends, for one command line. */
async function parse(
  ...argv: string[]
): Promise<{ out: string; err: string; exit: number | string }> {
  let out = '';
  let err = '';
  let exit: number | string = 'no action';
  const program = createProgram({
    version: '1.2.3',
    environment: {},
    finish: (code) => (exit = code),
  });
  const below = program.commands.flatMap(({ commands }) => commands);
  for (const command of [program, ...program.commands, ...below]) {
    command.configureOutput({
      writeOut: (text) => (out += text),
      writeErr: (text) => (err += text),
    });
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    exit =
      (error as { exitCode?: number; code: string }).exitCode ?? (error as { code: string }).code;
  }
  return { out, err, exit };
}

describe('the command line', () => {
  test('has a help for every command, with its flags and those of the cluster', async () => {
    const { commands } = createProgram({ version: '', environment: {}, finish: () => undefined });
    expect(commands.map((command) => command.name()).join(' ')).toBe(
      'run submit tasks task why explain logs kill status agents frameworks executors offers events replay drain undrain deactivate reactivate gone roles quota weight reserve unreserve reservations bullmq join-token acl token whoami certs dev master agent config step-down submit-runner check-redis completion',
    );
    for (const command of commands) {
      const { out, exit } = await parse(command.name(), '--help');
      expect(exit).toBe(0);
      expect(out).toContain(`Usage: kaon ${command.name()} `);
      // What makes certificates needs no cluster.
      expect(out.includes('--redis <url>')).toBe(command.name() !== 'certs');
      expect(command.description()).not.toBe('');
    }
  });

  test('fits into 80 columns', async () => {
    const { commands } = createProgram({ version: '', environment: {}, finish: () => undefined });
    const names = commands.map((command) => command.name());
    const helps = await Promise.all(
      [[], ...names.map((name) => [name])].map((argv) => parse(...argv, '--help')),
    );
    const lines = helps.flatMap(({ out }) => out.split('\n'));
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
  });

  test('prints its version and nothing else', async () => {
    expect(await parse('--version')).toEqual({ out: '1.2.3\n', err: '', exit: 0 });
  });

  test.each([
    [['taks'], "kaon: unknown command 'taks'; did you mean"],
    [
      ['tasks', '--jsn'],
      "kaon: unknown option '--jsn'; did you mean --json?\nhint: kaon tasks --help",
    ],
    [['task'], "kaon: missing required argument 'id'\nhint: kaon task --help"],
    [
      ['task', 'resize'],
      "kaon: missing required argument 'id'\nhint: kaon task resize --help lists its flags",
    ],
    [['task', 'a', 'b'], "kaon: too many arguments for 'task': expected 1 argument but got 2\n"],
    [['run'], "kaon: missing required argument 'command'\nhint: kaon run --help"],
  ])('%j is told what is wrong', async (argv, message) => {
    const { err, exit } = await parse(...argv);
    expect(err).toContain(message);
    expect(exit).toBe(1);
  });

  test('has a help for a command under another one, which is not taken for an argument', async () => {
    const { out, exit } = await parse('task', 'resize', '--help');
    expect([exit, out.split('\n')[0]]).toEqual([0, 'Usage: kaon task resize [options] ID']);
    expect(out).toContain('Exit code: 0 it has what was asked for');
    expect(out.split('\n').filter((line) => line.length > 80)).toEqual([]);
  });

  test('reads the flags of a command under another one, wherever the address stands', async () => {
    const nonsense = ['--mem', '12x'];
    expect(await parse('task', 'resize', 'web', ...nonsense)).toMatchObject({ exit: 'usage' });
    expect(await parse('task', '--redis', 'no', 'resize', 'web', '--cpus', '1')).toMatchObject({
      exit: 'redis-url',
    });
    expect(await parse('task', 'resize', '--redis', 'no', 'web', '--cpus', '1')).toMatchObject({
      exit: 'redis-url',
    });
  });

  test('takes the address of Redis before the command and after it', async () => {
    // An address that is no address fails before anything is connected to, and names the one that was used.
    expect(await parse('--redis', 'no', '--cluster', 'a b', 'agents')).toMatchObject({
      exit: 'usage',
    });
    expect(await parse('agents', '--cluster', 'a b')).toMatchObject({ exit: 'usage' });
    expect(
      await parse('--cluster', 'a b', 'agents', '--cluster', 'ok', '--redis', 'no'),
    ).toMatchObject({
      exit: 'redis-url',
    });
  });
});

describe('a failure', () => {
  test('is told in a line and a hint, without a stack', () => {
    const error = new KaonError('not-found', 'no task web', { hint: 'kaon tasks lists them' });
    expect(describeFailure(error)).toBe('kaon: no task web\nhint: kaon tasks lists them\n');
  });

  test('of Kaon itself comes with the stack, because it has to be reported', () => {
    expect(describeFailure(new TypeError('x is not a function'))).toMatch(
      /^kaon: x is not a function\nthis is a fault of Kaon.*\n {4}at /,
    );
  });

  test('of the system or of Redis has no stack', () => {
    const denied = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
    const reply = Object.assign(new Error('NOPERM no permission'), { name: 'ReplyError' });
    expect(describeFailure(denied)).toBe('kaon: EACCES: permission denied\n');
    expect(describeFailure(reply)).toBe('kaon: NOPERM no permission\n');
  });

  test('has the exit code of its kind', () => {
    const exitOf = (code: string): number => exitCodeFor(new KaonError(code, ''));
    expect(['usage', 'ambiguous', 'redis-url'].map(exitOf)).toEqual([2, 2, 2]);
    expect(['not-found', 'redis-unreachable', 'anything'].map(exitOf)).toEqual([3, 4, 1]);
    expect(exitCodeFor(usageError('x'))).toBe(2);
    expect(exitCodeFor(new Error('x'))).toBe(1);
  });

  test('cannot write to the terminal what a task was named', () => {
    expect(describeFailure(new KaonError('x', 'no \x1b[2J\nline'))).toBe(
      'kaon: no \\x1b[2J\nline\n',
    );
  });
});
