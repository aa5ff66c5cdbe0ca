/** An executor that fills the disk of its node: what the agent can still do, and that all is well again afterwards. */
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';
import type { ClusterBed } from '../beds/cluster.ts';
import { startClusterBed, until } from '../beds/cluster.ts';
import { propertyOf, unitsOf } from '../support/cluster-probe.ts';
import type { LiveFramework } from '../support/live-framework.ts';
import {
  actingExecutor,
  dataTask,
  defaultExecutor,
  shellTask,
  startFramework,
} from '../support/live-framework.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const TEST_TIMEOUT_MS = 120_000;

suite(`a disk that an executor has filled${reason === undefined ? '' : ` (${reason})`}`, () => {
  let cluster: ClusterBed;
  let disk: string;
  let culprit: LiveFramework;
  let others: LiveFramework;
  const executor = defaultExecutor('witness');
  const inside = async (script: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await cluster.inside('sh', '-ec', script, 'sh', disk);
    if (exitCode !== 0) throw new Error(`${script}: ${stderr}`);
    return stdout.trim();
  };

  beforeAll(async () => {
    cluster = await startClusterBed(['--resources', 'cpus=4,mem=2G']);
    disk = join(cluster.directory, 'agent');
    // A small disk for all that the agent keeps; it is mounted inside, and gone with it.
    await inside(
      'systemctl stop kaon-agent; cp -a "$1" "$1.old"; mount -t tmpfs -o size=8m,nr_inodes=400,mode=711 tmpfs "$1"; ' +
        'cp -a "$1.old/." "$1"; systemctl start kaon-agent',
    );
    culprit = await startFramework(cluster.redis, { name: 'culprit' });
    others = await startFramework(cluster.redis, { name: 'others' });
    const gate = join(cluster.directory, 'gate');
    const waits = `while [ ! -e ${gate} ]; do sleep 0.05; done; exit 5`;
    others.launch(shellTask('command', waits), shellTask('hosted', waits, { executor }));
    await others.reaches('command', 'TASK_RUNNING');
    await others.reaches('hosted', 'TASK_RUNNING');
    // Bytes first, then names, until there is room for neither.
    const fill =
      'mkdir fill; dd if=/dev/zero of=fill/bytes bs=4k; i=0; while : > fill/$i; do i=$((i+1)); done; sleep 300';
    culprit.launch(dataTask('fill', `spawn ${fill}`, actingExecutor('filler')));
    const left = 'df --output=avail,iavail "$1" | tail -1';
    await until(async () => (await inside(left)).replaceAll(/\s+/g, ' ') === '0 0');
  }, 180_000);
  afterAll(async () => {
    await Promise.all([culprit, others].map((framework) => framework.stop()));
    await cluster.inside('umount', '-l', disk);
    await cluster.stop();
  }, 120_000);

  test.each([
    ['a command', undefined],
    ['a task of an executor that runs', executor],
    ['a task of a new executor', defaultExecutor('new')],
  ])(
    '%s that is launched now fails, and says that there is no space',
    async (what, named) => {
      const taskId = what.replaceAll(' ', '-');
      others.launch(shellTask(taskId, 'exit 0', named ? { executor: named } : {}));
      const { state, message } = await others.endOf(taskId);
      expect(state).toBe('TASK_FAILED');
      expect(message).toMatch(/no space|ENOSPC/i);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'an agent that is killed comes back, and tells the ends of what was running',
    async () => {
      const [agent = NaN] = cluster.daemons('agent');
      process.kill(agent, 'SIGKILL');
      await until(() => cluster.daemons('agent').some((pid) => pid !== agent));
      writeFileSync(join(cluster.directory, 'gate'), '');
      for (const taskId of ['command', 'hosted']) {
        expect((await others.endOf(taskId)).message).toBe('exited with code 5');
      }
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'the culprit can be ended, and when its files are gone all works again, also for the next agent',
    async () => {
      const { agentId = '', unit = '' } = await culprit.reaches('fill', 'TASK_RUNNING');
      culprit.driver.shutdownExecutor('filler', agentId);
      expect((await culprit.lossOf('filler')).message).toContain('was shut down');
      await until(async () => !(await unitsOf(cluster)).includes(unit));
      await inside('rm -r "$1"/sandboxes/*/*/*/work/fill');
      others.launch(
        shellTask('after', 'exit 0'),
        shellTask('after-hosted', 'exit 0', { executor }),
      );
      await others.reaches('after', 'TASK_FINISHED');
      const { unit: shared = '' } = await others.reaches('after-hosted', 'TASK_FINISHED');
      const pid = await propertyOf(cluster, shared, 'MainPID');
      await cluster.inside('systemctl', 'restart', 'kaon-agent');
      others.launch(shellTask('next', 'exit 0', { executor }));
      expect((await others.reaches('next', 'TASK_FINISHED')).unit).toBe(shared);
      expect(await propertyOf(cluster, shared, 'MainPID')).toBe(pid);
    },
    TEST_TIMEOUT_MS,
  );
});
