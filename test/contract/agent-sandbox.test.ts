/** Users and sandboxes of tasks through an agent on real systemd: what a node grants, and what becomes of what it does not. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { SandboxSettings } from '../../agent/sandboxing.ts';
import type { ExecutorInfo } from '../../protocol/executor.ts';
import { ExecutorInfo as Executor } from '../../protocol/executor.ts';
import type { CommandInfo } from '../../protocol/command.ts';
import { CommandInfo as Command } from '../../protocol/command.ts';
import { RELAXATION_NAMES } from '../../protocol/sandboxing.ts';
import { SANDBOX_SIGNATURES } from '../../systemd/sandboxing.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import { type RunningAgent, startAgentOn } from '../beds/agents.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';

const reason = bedReason('systemd');
const suite = reason === undefined ? describe : describe.skip;
const TEST_TIMEOUT_MS = 120_000;
/** What systemd takes users of units from, systemd.exec(5), `DynamicUser=`. */
const DYNAMIC_UIDS = { first: 61_184, last: 65_519 };
/** As an agent without any settings has it, where there is no user for tasks. */
const STRICT: SandboxSettings = { taskUser: 'dynamic', allowRoot: false, allowUsers: [] };

/** Of `systemctl show`. */
const SANDBOX_NAMES = new Set(Object.keys(SANDBOX_SIGNATURES));

suite(`sandboxes of an agent${reason === undefined ? '' : ` (${reason})`}`, () => {
  let bed: SystemdBed;
  let agent: RunningAgent;
  let launches = 0;
  beforeAll(async () => {
    bed = await startSystemdBed();
  }, TEST_TIMEOUT_MS);
  afterEach(() => agent.stop());
  afterAll(() => bed.stop(), TEST_TIMEOUT_MS);

  const start = async (name: string, sandboxing: SandboxSettings): Promise<void> => {
    agent = await startAgentOn(bed, name, { sandboxing: { expose: [], ...sandboxing } });
  };
  const commandOf = (script: string, more: object = {}): CommandInfo =>
    Command.parse({ argv: ['/bin/sh', '-c', script], ...more });
  const launch = (script: string, more: object = {}): string => {
    const launchId = `1.1.${String((launches += 1))}`;
    agent.hub.run(launchId, `t${String(launches)}`, { command: commandOf(script, more) });
    return launchId;
  };
  const endOf = (launchId: string): Promise<TaskStatus> =>
    Promise.race(
      (['TASK_FINISHED', 'TASK_FAILED', 'TASK_ERROR'] as const).map((state) =>
        agent.hub.status(launchId, state),
      ),
    );
  const run = (script: string, more: object = {}): Promise<TaskStatus> =>
    endOf(launch(script, more));
  const tailOf = async (status: Promise<TaskStatus>): Promise<string> => {
    const { certificate, message } = await status;
    return certificate?.stdoutTail ?? `${String(message)} ${certificate?.stderrTail ?? ''}`;
  };
  const executor = (more: Partial<ExecutorInfo>): ExecutorInfo =>
    Executor.parse({
      executorId: 'e1',
      name: 'e1',
      resources: { cpuMillis: 100, memMib: 96 },
      ...more,
    });
  const host = (script: string, info: ExecutorInfo): Promise<TaskStatus> => {
    const launchId = `1.1.${String((launches += 1))}`;
    agent.hub.host(launchId, `t${String(launches)}`, info, { command: commandOf(script) });
    return endOf(launchId);
  };

  test(
    'tasks of dynamic users are strangers to each other, and have their files',
    async () => {
      await start('dynamic', STRICT);
      const first = launch('id -u > uid; cat uid; exec sleep 1000');
      const { unit = '' } = await agent.hub.status(first, 'TASK_RUNNING');
      const pid = bed.run('systemctl', 'show', '-P', 'MainPID', unit).trim();
      // A dollar makes it a script in the sandbox, and the second line is what it has fetched.
      const launchId = `1.1.${String((launches += 1))}`;
      agent.hub.run(launchId, 'strange', {
        command: commandOf(
          `id -u; cat fetched; touch $HOME/x /tmp/x; kill -0 ${pid} && echo $reached; echo x >>/dev/stdout`,
        ),
        uris: [{ uri: 'data:,hello%0A', path: 'fetched', executable: false, cache: false }],
      });
      const [uid, ...rest] = (await tailOf(endOf(launchId))).split('\n');
      expect(rest).toEqual(['hello', 'x', '']);
      expect(Number(uid)).toBeGreaterThanOrEqual(DYNAMIC_UIDS.first);
      expect(Number(uid)).toBeLessThanOrEqual(DYNAMIC_UIDS.last);
      expect(statSync(join(agent.directory, 'sandboxes')).mode & 0o777).toBe(0o700);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'the default executor of a dynamic user runs its tasks',
    async () => {
      await start('dynamic-executor', STRICT);
      const tail = await tailOf(host('id -u; touch x; ls', executor({})));
      expect(tail).toMatch(/^6\d{4}\nx\n$/);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task in a cgroup of its own, in the executor of a user that is not root',
    async () => {
      await start('isolation', { allowUsers: ['nobody'] });
      const info = executor({ isolation: 'task', user: 'nobody' });
      const script = 'id -un; grep -o task-1.1 /proc/self/cgroup | sort -u; cat /proc/1/environ';
      const { certificate, message } = await host(script, info);
      expect([message, certificate?.stdoutTail]).toEqual([
        'exited with code 1',
        'nobody\ntask-1.1\n',
      ]);
    },
    TEST_TIMEOUT_MS,
  );

  test.each([
    [
      { user: 'root' },
      'it is to run as root, which this node does not allow: its agent would need --allow-root',
    ],
    [
      { user: 'nobody' },
      'it is to run as user "nobody", which this node does not allow: its agent would need --allow-user nobody',
    ],
    [
      { sandboxing: { relax: ['devices'], network: 'full' } },
      'it is to be without the part of the sandbox called devices, which this node does not allow: its agent would need --allow-relax devices',
    ],
    [
      { sandboxing: { relax: ['of-tomorrow'], network: 'full' } },
      'it is to be without of-tomorrow, a part of the sandbox that this agent does not know',
    ],
    [
      { sandboxing: { relax: [], network: 'of-tomorrow' } },
      'network of-tomorrow is unknown to this agent',
    ],
  ])(
    '%j is an error of the task where the node does not grant it',
    async (more, words) => {
      await start(`strict-${String((launches += 1))}`, STRICT);
      const { state, reason: why, message } = await run('true', more);
      expect([state, why]).toEqual(['TASK_ERROR', 'REASON_TASK_INVALID']);
      expect(message).toContain(words);
      const hosted = 'user' in more ? { user: more.user } : { sandboxing: more.sandboxing };
      const refused = await host('true', executor(hosted));
      expect([refused.state, refused.reason]).toEqual(['TASK_ERROR', 'REASON_TASK_INVALID']);
      expect(refused.message).toContain(words);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'what a node allows is granted',
    async () => {
      await start('lenient', {
        ...STRICT,
        allowUsers: ['nobody'],
        allowRelax: ['devices', 'home'],
      });
      const relaxed = { user: 'nobody', sandboxing: { relax: ['devices'], network: 'none' } };
      expect(await tailOf(run('id -un; ls /dev | grep -c vda', relaxed))).toBe('nobody\n1\n');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'without any part there is no sandbox, on a node that cannot make one',
    async () => {
      await start('bare', { relax: RELAXATION_NAMES });
      const script = 'readlink /proc/self/ns/mnt; grep Seccomp: /proc/self/status';
      const [namespace = '', seccomp] = (await tailOf(run(script))).split('\n');
      expect(namespace).toBe(bed.run('readlink', '/proc/1/ns/mnt').trim());
      expect(seccomp).toMatch(/0$/);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a sandbox that cannot be made is told as such',
    async () => {
      await start('impossible', { expose: ['/no/such/place'] });
      const { state, reason: why, message } = await run('true');
      expect([state, why]).toEqual(['TASK_FAILED', 'REASON_CONTAINER_LAUNCH_FAILED']);
      expect(message).toContain('its view of the file system could not be made');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'systemd reads the sandbox back as it was told',
    async () => {
      await start('reread', { allowUsers: ['*'] });
      const info = executor({ isolation: 'task', user: 'nobody' });
      const launchId = `1.1.${String((launches += 1))}`;
      agent.hub.host(launchId, 'reread', info, { command: commandOf('sleep 1000') });
      const { unit = '' } = await agent.hub.status(launchId, 'TASK_RUNNING');
      const show = (): string[] =>
        bed
          .run('systemctl', 'show', unit)
          .split('\n')
          .filter((line) => SANDBOX_NAMES.has(line.slice(0, line.indexOf('='))));
      const before = show();
      expect(before.length).toBeGreaterThan(20);
      expect(before).toContain('RestrictNamespaces=uts');
      bed.run('systemctl', 'daemon-reload');
      expect(show()).toEqual(before);
    },
    TEST_TIMEOUT_MS,
  );
});
