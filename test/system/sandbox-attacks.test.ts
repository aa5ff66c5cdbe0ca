/** A table of what hostile tasks try on a node, on real systemd: docs/sandboxing.md says what holds each of them off. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { TaskDescription } from '../../framework/index.ts';
import type { Network, Relaxation } from '../../protocol/sandboxing.ts';
import { bedReason } from '../beds/available.ts';
import { type ClusterBed, startClusterBed, until } from '../beds/cluster.ts';
import { type Attack, ATTACKS, type Surroundings } from '../support/attacks.ts';
import { propertyOf } from '../support/cluster-probe.ts';
import { defaultExecutor, type LiveFramework, startFramework } from '../support/live-framework.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const TEST_TIMEOUT_MS = 120_000;
/** What the victim keeps to itself. */
const SECRET = 'do not tell';
const NOBODY = 65_534;
const MARKED = ['/tmp', '/home', '/root'];

suite(`hostile tasks${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: ClusterBed;
  let framework: LiveFramework;
  let shared: string;
  let mark: string;
  let launched = 0;
  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=8,mem=4G', '--task-user', 'nobody']);
    framework = await startFramework(cluster.redis, { name: 'hostile' });
    shared = join(cluster.directory, 'shared');
    mkdirSync(shared, { mode: 0o755 });
    // As a package with a hole in it would install.
    copyFileSync('/usr/bin/id', join(shared, 'setuid-id'));
    chmodSync(join(shared, 'setuid-id'), 0o4755);
    await cluster.inside('sh', '-c', 'mkdir -p /run/kaon && echo x > /run/kaon/secret');
    mark = `${basename(cluster.directory)}.mark`;
    for (const path of MARKED) writeFileSync(join(path, mark), '');
  }, 180_000);
  afterAll(async () => {
    for (const path of MARKED) rmSync(join(path, mark), { force: true });
    await framework.stop();
    await cluster.stop();
  }, 120_000);

  interface Wanted {
    readonly user?: string | undefined;
    readonly relax?: readonly Relaxation[];
    readonly network?: Network;
    readonly memMib?: number | undefined;
    readonly more?: Partial<TaskDescription>;
  }
  const launch = (script: string, wanted: Wanted = {}): string => {
    const { user, relax = [], network = 'full', memMib = 16, more } = wanted;
    launched += 1;
    const taskId = `t${String(launched)}`;
    framework.launch({
      taskId,
      name: taskId,
      resources: { cpuMillis: 100, memMib },
      command: {
        argv: ['/bin/sh', '-c', script],
        ...(user !== undefined && { user }),
        sandboxing: { relax: [...relax], network },
      },
      ...more,
    });
    return taskId;
  };
  const run = async (script: string, wanted: Wanted = {}) =>
    framework.endOf(launch(script, wanted));
  /** In a shell of its own, so that what it redirects and exits with is its own. */
  const verdictOf = (script: string): string =>
    `if (${script}) >/dev/null 2>&1; then echo got it; else echo did not; fi`;
  const start = async (relax: readonly Relaxation[]): Promise<Surroundings> => {
    const script = `umask 022; echo '${SECRET}' > secret; exec sleep 1000`;
    const taskId = launch(script, { relax });
    const { unit = '', launchId = '' } = await framework.reaches(taskId, 'TASK_RUNNING');
    const agent = join(cluster.directory, 'agent');
    const { frameworkId } = framework.driver;
    const victimWork = join(agent, 'sandboxes', frameworkId, taskId, launchId, 'work');
    const secret = join(victimWork, 'secret');
    // The task runs before its shell has written anything.
    await until(() => existsSync(secret) && readFileSync(secret, 'utf8') === `${SECRET}\n`);
    return {
      agent,
      shared,
      mark,
      agentPid: await agentPid(),
      victimPid: Number(await propertyOf(cluster, unit, 'MainPID')),
      victimWork,
    };
  };
  /** As numbered inside, where the tasks are. */
  const agentPid = async (): Promise<number> => {
    const found = Number(await propertyOf(cluster, 'kaon-agent.service', 'MainPID'));
    if (found !== 0) return found;
    const [pid] = cluster.daemons('agent');
    // A signal to process 0 goes to the whole group of whoever sends it.
    if (pid === undefined) throw new Error('there is no agent');
    return pid;
  };
  /** The same, by the same user, without Kaon. */
  const outside = async (script: string, user: Attack['user']): Promise<string> => {
    const id = String(user === 'root' ? 0 : NOBODY);
    const become = ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups'];
    const enter = `own=$(mktemp -d); (cd "$own" && ${verdictOf(script)}); rm -rf "$own"`;
    const { stdout } = await cluster.inside(...become, 'sh', '-c', enter);
    return stdout.trim();
  };

  describe('an attack', () => {
    let around: Surroundings;
    /** Of a control the victim does without the same. */
    const exposed = new Map<string, Promise<Surroundings>>();
    beforeAll(async () => {
      around = await start([]);
    }, TEST_TIMEOUT_MS);

    test.each(ATTACKS)(
      '$what: held off',
      async ({ script, user, memMib, control }) => {
        const held = await run(verdictOf(script(around)), { user, memMib });
        expect(held.certificate?.stdoutTail?.trim()).toBe('did not');
        if (control === 'outside') {
          expect(await outside(script(around), user)).toBe('got it');
        } else if (typeof control !== 'string') {
          const relax = control.filter((part) => part === 'processes');
          const key = relax.join();
          const victim = exposed.get(key) ?? start(relax);
          exposed.set(key, victim);
          const wanted = { user, memMib, relax: control };
          const got = await run(verdictOf(script(await victim)), wanted);
          expect(got.certificate?.stdoutTail?.trim()).toBe('got it');
        }
      },
      TEST_TIMEOUT_MS,
    );
  });

  test(
    'a fork bomb ends itself, and its certificate says why',
    async () => {
      const bomb = 'exec 2>/dev/null; b() { b | b & wait; }; b; sleep 1000';
      const { state, reason: why, certificate } = await run(bomb, { memMib: 24 });
      expect([state, why]).toEqual(['TASK_FAILED', 'REASON_CONTAINER_LIMITATION_MEMORY']);
      expect(certificate?.oomKills).toBeGreaterThan(0);
      expect(await run('exit 0')).toMatchObject({ state: 'TASK_FINISHED' });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'tasks of different users cannot signal each other; those of one user can, as docs/sandboxing.md says',
    async () => {
      const { victimPid } = await start([]);
      const signal = verdictOf(`kill -0 ${String(victimPid)}`);
      const tail = async (user?: string): Promise<string | undefined> =>
        (await run(signal, { user })).certificate?.stdoutTail?.trim();
      expect([await tail('daemon'), await tail()]).toEqual(['did not', 'got it']);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a task without network has a loopback of its own and nothing else',
    async () => {
      const count = "grep -c ':' /proc/net/dev; grep -q lo: /proc/net/dev && echo lo";
      const { certificate } = await run(count, { network: 'none' });
      expect(certificate?.stdoutTail).toBe('1\nlo\n');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'names, arguments and values cannot become settings of the unit, also when systemd reads it again',
    async () => {
      const evil = 'x\nUser=root\n[Service]\nUser=root\n\\';
      const script = 'until [ -e go ]; do sleep 0.1; done; id -u; printf %s "$EVIL"';
      launched += 1;
      const taskId = `t${String(launched)}`;
      framework.launch({
        taskId,
        name: evil,
        labels: { [evil]: evil },
        resources: { cpuMillis: 100, memMib: 16 },
        command: {
          argv: ['/bin/sh', '-c', script, evil, '-x', '--'],
          environment: { EVIL: evil },
        },
      });
      const { unit = '', launchId = '' } = await framework.reaches(taskId, 'TASK_RUNNING');
      await cluster.inside('systemctl', 'daemon-reload');
      expect(await propertyOf(cluster, unit, 'User')).toBe('nobody');
      expect(await propertyOf(cluster, unit, 'ProtectSystem')).toBe('strict');
      const { frameworkId } = framework.driver;
      const sandboxes = join(cluster.directory, 'agent', 'sandboxes', frameworkId);
      writeFileSync(join(sandboxes, taskId, launchId, 'work', 'go'), '');
      const { certificate } = await framework.endOf(taskId);
      expect(certificate?.stdoutTail).toBe(`${String(NOBODY)}\n${evil}`);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a name with escape sequences reaches no terminal',
    async () => {
      const name = '\u001b]0;mine\u0007\u001b[2J\u009b31m\nTASK_RUNNING';
      const taskId = launch('printf "\\033[2J"', { more: { name } });
      await framework.endOf(taskId);
      const lists = [['tasks', '--all'], ['task', taskId], ['events']];
      for (const args of lists) {
        const { stdout } = await cluster.kaon(...args);
        expect(stdout).toContain('mine');
        expect(stdout).not.toMatch(/[\u001b\u0007\u009b]/);
      }
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "an executor sees the sandboxes of its own tasks; its token is in nobody's command line or environment",
    async () => {
      const executor = defaultExecutor('tokens');
      const taskId = `hosted${String((launched += 1))}`;
      const agent = join(cluster.directory, 'agent');
      framework.launch({
        taskId,
        name: taskId,
        resources: { cpuMillis: 100, memMib: 16 },
        executor,
        command: { argv: ['/bin/sh', '-c', `ls ${agent} ${agent}/hosted; exec sleep 1234`] },
      });
      await framework.reaches(taskId, 'TASK_RUNNING');
      const own = join(agent, 'sandboxes', framework.driver.frameworkId, 'tokens');
      const [launch_ = ''] = readdirSync(own);
      const token = readFileSync(join(own, launch_, 'token'), 'utf8');
      const readAll = 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"';
      let stdout = '';
      // The task runs before its shell has listed anything; its `sleep` comes after that.
      await until(async () => {
        ({ stdout } = await cluster.inside('sh', '-c', readAll));
        return stdout.includes('\nsleep\n1234\n');
      });
      expect(stdout).toContain('KAON_EXECUTOR_TOKEN_FILE=');
      expect(stdout).not.toContain(token);
      framework.driver.killTask(taskId);
      const { certificate } = await framework.endOf(taskId);
      const [, listed = '', hosted = ''] = (certificate?.stdoutTail ?? '').split(':\n');
      expect(listed.split('\n').filter((line) => !line.startsWith('/') && line !== '')).toEqual([
        'hosted',
        'sandboxes',
        'socket',
      ]);
      expect(hosted.trim()).toBe(launch_);
    },
    TEST_TIMEOUT_MS,
  );

  test.each(['ln -s /etc/shadow ../stdout', 'mkfifo ../stdout', 'mkdir ../stdout'])(
    'an output that a task of root puts something else in the place of is not read: %s',
    async (swap) => {
      const taskId = `swap${String((launched += 1))}`;
      framework.launch({
        taskId,
        name: taskId,
        resources: { cpuMillis: 100, memMib: 16 },
        executor: defaultExecutor('swapping', { user: 'root' }),
        command: { argv: ['/bin/sh', '-c', `rm ../stdout && ${swap}`] },
      });
      const { state, certificate } = await framework.endOf(taskId);
      expect(state).toBe('TASK_FINISHED');
      expect(certificate?.stdoutTail ?? '').toBe('');
      const { stdout } = await cluster.kaon('logs', '--stdout', taskId);
      expect(stdout).toBe('');
    },
    TEST_TIMEOUT_MS,
  );
});
