/** Health, verdicts, environments and joined commands of the default executor. */
import { describe, expect, test } from '@jest/globals';
import type { HealthOutcome } from '../../../executor/default/core/health.ts';
import { createHealth, noteCheck } from '../../../executor/default/core/health.ts';
import { joinedCommand, startFailureOf } from '../../../executor/default/core/joined-command.ts';
import { judge, judgeStart } from '../../../executor/default/core/verdict.ts';
import {
  sharedEnvironment,
  taskEnvironment,
  workingDirectory,
} from '../../../executor/default/environment.ts';
import { HealthCheck } from '../../../protocol/command.ts';
import { launchedTask } from '../../support/fake-agent-socket.ts';

describe('health', () => {
  const rules = HealthCheck.parse({
    check: { type: 'tcp', port: 80 },
    failuresMax: 2,
    gracePeriodMs: 1000,
  });

  /** `+` passes, `-` fails; the first at 0, and then one every 400 ms. */
  test.each<[string, string, HealthOutcome[]]>([
    ['passes', '+++', ['changed', 'nothing', 'nothing']],
    ['failures in the grace period', '---', ['nothing', 'nothing', 'nothing']],
    ['failures after it', '-----', ['nothing', 'nothing', 'nothing', 'changed', 'failed']],
    ['failures of what was healthy', '+--', ['changed', 'changed', 'failed']],
    [
      'failures with a pass between them',
      '+-+-+',
      ['changed', 'changed', 'changed', 'changed', 'changed'],
    ],
  ])('counts %s', (_what, results, outcomes) => {
    const health = createHealth(rules, 0);
    const found = [...results].map((result, index) =>
      noteCheck(health, result === '+', index * 400),
    );
    expect(found).toEqual(outcomes);
  });
});

describe('a verdict', () => {
  const { task } = launchedTask('t1', { maxCompletionTimeMs: 60_000 });

  test.each([
    ['of a signal without a name', { signal: 35 }, undefined, 'ended by signal 35'],
    ['of nothing', {}, undefined, 'ended in an unknown way'],
    ['of a limit', { signal: 15 }, { type: 'time-limit' }, 'ran longer than its limit of 1m'],
    [
      'of a task that was not begun',
      undefined,
      { type: 'group-kill', taskId: 't2' },
      'killed because task t2 of its group was to be killed: it had not been started',
    ],
    [
      'of one health check',
      {},
      { type: 'health', failures: 1, problem: 'exited with code 1' },
      'killed because its health check failed: exited with code 1',
    ],
  ] as const)('%s has words', (_of, exit, cause, message) => {
    expect(judge(task, exit, cause).message).toBe(message);
  });

  test('of a start that failed tells the command from the rest', () => {
    expect(judgeStart('node-1', { kind: 'command', message: 'why' })).toEqual({
      state: 'TASK_FAILED',
      reason: 'REASON_COMMAND_NOT_EXECUTABLE',
      message: 'not started on node-1: why',
    });
    const { reason } = judgeStart('node-1', { kind: 'other', message: 'why' });
    expect(reason).toBe('REASON_CONTAINER_LAUNCH_FAILED');
  });
});

describe('a command that joins control groups', () => {
  const launchId = 'l1';
  const command = { argv: ['echo', 'a b'], environment: { A: '1' } };

  test('is left alone if there are none', () => {
    expect(joinedCommand(command, { launchId, cgroupProcs: [] })).toBe(command);
  });

  test('has its words as arguments of the shell', () => {
    const { argv, environment } = joinedCommand(command, {
      launchId,
      cgroupProcs: ['/c 1', '/c2'],
    });
    expect(argv.slice(0, 2)).toEqual(['/bin/sh', '-c']);
    expect(argv.slice(4)).toEqual(['/c 1', '/c2', 'echo', 'a b']);
    expect(argv[2]).toContain('echo 0 > "${1}" && echo 0 > "${2}"');
    expect(argv[2]).not.toContain('/c');
    expect(environment).toEqual({ A: '1' });
  });

  test('goes through env if a shell would change something', () => {
    const changed = { argv: ['a=b'], environment: { IFS: ' ', A: '1' } };
    const { argv, environment } = joinedCommand(changed, { launchId, cgroupProcs: ['/c'] });
    expect(argv.slice(5).join(' ')).toBe(
      '/usr/bin/env -u PWD -u OLDPWD -u SHLVL -u _ -- IFS=  /usr/bin/nice -n 0 -- a=b',
    );
    expect(environment).toEqual({ A: '1' });
  });

  const line = 'kaon: the command of launch l1 was not executed';
  test.each([
    [
      'joined',
      125,
      `x\n${line}: 2: cannot create /c\n${line}\n`,
      'other',
      'its control group could not be joined: 2: cannot create /c',
    ],
    [
      'executed',
      127,
      `${line}: 6: exec: nosuch: not found\n${line}\n`,
      'command',
      'its command cannot be executed: 6: exec: nosuch: not found',
    ],
  ])('and is not %s says why', (_what, exitCode, tail, kind, message) => {
    expect(startFailureOf(exitCode, tail, { launchId })).toEqual({ kind, message });
  });

  test.each([
    ['of another launch', 127, 'kaon: the command of launch l2 was not executed\n'],
    ['in the middle of its output', 127, `${line}\nmore\n`],
    ['with an exit code of its own', 1, `${line}\n`],
  ])('is not taken for one that was not executed by words %s', (_what, exitCode, tail) => {
    expect(startFailureOf(exitCode, tail, { launchId })).toBeUndefined();
  });
});

describe('the environment of a task', () => {
  const own = {
    ...{ PATH: '/bin', HOME: '/e', USER: 'ann', KAON_SANDBOX: '/e', KAON_FRAMEWORK_ID: 'f1' },
    ...{ KAON_EXECUTOR_ID: 'e1', KAON_EXECUTOR_TOKEN_FILE: '/secret', NODE_OPTIONS: '--inspect' },
  };
  const launched = {
    ...launchedTask('t1'),
    sandbox: { work: '/t/work', stdout: '/t/out', stderr: '/t/err' },
  };

  test('has little, and no secret', () => {
    expect(taskEnvironment(sharedEnvironment(own), launched)).toEqual({
      HOME: '/t/work',
      PATH: '/bin',
      USER: 'ann',
      KAON_TASK_ID: 't1',
      KAON_SANDBOX: '/t/work',
      KAON_FRAMEWORK_ID: 'f1',
      KAON_EXECUTOR_ID: 'e1',
      KAON_EXECUTOR_SANDBOX: '/e',
    });
  });

  test('has the home of a user who has one', () => {
    const shared = sharedEnvironment({ ...own, HOME: '/home/ann' });
    expect(taskEnvironment(shared, launched)).toMatchObject({ HOME: '/home/ann' });
  });

  test('has a path to search in any case', () => {
    expect(sharedEnvironment({})['PATH']).toContain('/usr/bin');
  });

  test('is what the task says, whatever else would be there', () => {
    const command = {
      argv: ['x'],
      environment: { PATH: '/mine', HOME: '/h' },
      workingDirectory: '/d',
    };
    const mine = { ...launchedTask('t1', { command }), sandbox: launched.sandbox };
    expect(taskEnvironment(sharedEnvironment(own), mine)).toMatchObject({
      PATH: '/mine',
      HOME: '/h',
    });
    expect(workingDirectory(mine)).toBe('/d');
    expect(workingDirectory(launched)).toBe('/t/work');
  });
});
