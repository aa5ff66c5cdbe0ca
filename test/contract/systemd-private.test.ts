/**
 * What a private systemd leaves behind: nothing, however its owner ends.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { bootPrivateSystemd } from '../../systemd/private/boot.ts';
import { listHierarchies } from '../../systemd/private/cgroups.ts';
import { bedReason } from '../beds/available.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd');
const suite = reason === undefined ? describe : describe.skip;

/** Cgroups of the boots that process `pid` made. */
function cgroupsOf(pid: number): string[] {
  return listHierarchies().flatMap(({ ownDirectory }) =>
    readdirSync(ownDirectory).filter((name) => name.startsWith(`kaon-dev-${pid}-`)),
  );
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
}

suite(reason === undefined ? 'a private systemd' : `a private systemd (skipped: ${reason})`, () => {
  let stateDir: string;
  beforeAll(() => {
    stateDir = mkdtempSync(join(tmpdir(), 'kaon-private-'));
  });
  afterAll(() => rmSync(stateDir, { recursive: true, force: true }));

  test(
    'runs an extra unit with its environment, restarts it, and leaves nothing after stop',
    async () => {
      const output = join(stateDir, 'agent.out');
      const script = 'console.log(process.env.KAON_X);setTimeout(()=>process.exit(1),50)';
      const unit = [
        '[Service]',
        `ExecStart=${process.execPath} -e ${script}`,
        'Environment=KAON_X=hello',
        `StandardOutput=append:${output}`,
        'Restart=always',
        'RestartSec=10ms',
      ];
      const inside = await bootPrivateSystemd({
        stateDir,
        extraUnits: { 'kaon-agent.service': unit.join('\n') },
      });
      await until(
        () => existsSync(output) && readFileSync(output, 'utf8').startsWith('hello\nhello\n'),
      );
      expect(cgroupsOf(process.pid).length).toBeGreaterThan(0);
      await inside.stop();
      await inside.exited;
      expect(cgroupsOf(process.pid)).toEqual([]);
      expect(readdirSync(stateDir)).toEqual(['agent.out']);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'leaves no directory of a /tmp of its own in that of the host',
    async () => {
      const inside = await bootPrivateSystemd({ stateDir });
      const unit = `kaon-test-${String(process.pid)}.service`;
      const options = ['-q', `--unit=${unit}`, '-p', 'PrivateTmp=yes', '-p', 'Type=exec'];
      const argv = inside.nsenter(['systemd-run', ...options, 'sleep', '60']);
      execFileSync(argv[0] ?? '', argv.slice(1));
      const left = (): string[] =>
        ['/tmp', '/var/tmp'].filter((parent) =>
          readdirSync(parent).some((name) => name.includes(unit)),
        );
      expect(left()).toEqual(['/tmp', '/var/tmp']);
      await inside.stop();
      expect(left()).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'is stopped also when it has died before',
    async () => {
      const inside = await bootPrivateSystemd({ stateDir });
      process.kill(inside.pid, 'SIGKILL');
      await inside.exited;
      await inside.stop();
      expect(cgroupsOf(process.pid)).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'dies with an owner that is killed; the next boot sweeps what is left',
    async () => {
      const boot = join(import.meta.dirname, '../../systemd/private/boot.ts');
      const source = `import { bootPrivateSystemd } from ${JSON.stringify(boot)};
      const inside = await bootPrivateSystemd({ stateDir: ${JSON.stringify(stateDir)} });
      console.log(inside.pid); setInterval(() => {}, 1000);`;
      const owner = join(stateDir, 'owner.mjs');
      writeFileSync(join(stateDir, 'owner.ts'), source);
      await build({
        entryPoints: [join(stateDir, 'owner.ts')],
        outfile: owner,
        bundle: true,
        platform: 'node',
        format: 'esm',
      });
      const child = spawn(process.execPath, [owner], { stdio: ['ignore', 'pipe', 'inherit'] });
      const pid = await new Promise<string>((resolve) =>
        child.stdout.once('data', (data) => resolve(String(data).trim())),
      );
      child.kill('SIGKILL');
      await until(() => !existsSync(`/proc/${pid}`) && child.signalCode !== null);
      await until(() => !existsSync(`/proc/${child.pid}`));
      // Another test's boot may sweep these cgroups first; the directory is swept by a boot in it alone.
      expect(readdirSync(stateDir).some((name) => name.startsWith('kaon-dev-'))).toBe(true);
      await (await bootPrivateSystemd({ stateDir })).stop();
      expect(cgroupsOf(child.pid ?? 0)).toEqual([]);
      expect(readdirSync(stateDir).filter((name) => name.startsWith('kaon-dev-'))).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );
});
