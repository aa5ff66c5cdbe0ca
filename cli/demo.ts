/**
 * `npm run demo`: starts `kaon dev`, shows what Kaon does with real tasks on this machine, and checks each claim.
 * Exits with 0 only if all of it came out as said.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatBytes } from '../protocol/quantities.ts';
import type { EndedTask } from '../protocol/records.ts';
import { paintFor } from './style.ts';

const KAON = fileURLToPath(new URL('./kaon.js', import.meta.url));
/** What the demonstration node offers, so that "more than fits" is the same on every machine. */
const NODE_RESOURCES = 'cpus=2,mem=1G';
const CPU_SHARE = 0.2;
const START_TIMEOUT_MS = 30_000;

interface Result {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | null;
  readonly tookMs: number;
}

interface Cluster {
  readonly redis: string;
  readonly stop: () => Promise<number | null>;
}

type Check = readonly [claim: string, holds: boolean];

const paint = paintFor(process.stdout);
const bold = (text: string): string => paint('bold', text);
const dim = (text: string): string => paint('dim', text);
const green = (text: string): string => paint('green', text);
const red = (text: string): string => paint('red', text);
const out = (text = ''): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const startedAtMs = performance.now();
  const stateDir = mkdtempSync(join(tmpdir(), 'kaon-demo-'));
  let failures = 0;
  let cluster: Cluster | undefined;
  try {
    out(bold('Kaon: a cluster on this machine, with real limits'));
    cluster = await startCluster(stateDir);
    for (const scene of [
      outputScene,
      cpuScene,
      memoryScene,
      queueScene,
      killScene,
      survivalScene,
    ]) {
      const checks = await scene(cluster.redis);
      for (const [claim, holds] of checks) {
        out(`  ${holds ? green('✓') : red('✗')} ${claim}`);
        if (!holds) failures += 1;
      }
    }
  } finally {
    const exitCode = await cluster?.stop();
    rmSync(stateDir, { recursive: true, force: true });
    out(`\n${dim('$ ^C')}`);
    const clean = exitCode === 0;
    out(
      `  ${clean ? green('✓') : red('✗')} kaon dev has stopped${clean ? '' : ` with code ${String(exitCode)}`}`,
    );
    if (!clean) failures += 1;
  }
  const seconds = Math.round((performance.now() - startedAtMs) / 1000);
  out(
    failures === 0
      ? `\n${green('All of it came out as said')}, in ${String(seconds)} s. Now you: npx kaon dev`
      : `\n${red(`${String(failures)} of the claims did not hold`)} (${String(seconds)} s)`,
  );
  return failures === 0 ? 0 : 1;
}

/** Starts `kaon dev` and waits for the address that it prints. */
async function startCluster(stateDir: string): Promise<Cluster> {
  const argv = ['dev', '--state-dir', stateDir, '--resources', NODE_RESOURCES];
  out(`\n${dim('$')} kaon ${argv.join(' ')}`);
  const child = spawn(process.execPath, [KAON, ...argv], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const redis = await new Promise<string>((resolve, reject) => {
    let text = '';
    const timer = setTimeout(() => {
      reject(
        new Error(`kaon dev was not ready after ${String(START_TIMEOUT_MS / 1000)} s:\n${text}`),
      );
    }, START_TIMEOUT_MS);
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const address = /export KAON_REDIS=(\S+)/.exec(text)?.[1];
      if (address === undefined || !text.includes('Ctrl-C')) return;
      clearTimeout(timer);
      resolve(address);
    });
    void ended.then((code) => {
      reject(new Error(`kaon dev ended with code ${String(code)}:\n${text}`));
    });
  });
  out(dim(`  a redis-server, a master, and an agent that offers 2 cpus and 1G, at ${redis}`));
  return {
    redis,
    stop: async () => {
      child.kill('SIGINT');
      return ended;
    },
  };
}

async function outputScene(redis: string): Promise<Check[]> {
  title('Output and exit code pass through');
  const result = await kaon(redis, [
    'run',
    '--',
    'sh',
    '-c',
    'echo to stdout; echo to stderr >&2; exit 7',
  ]);
  return [
    ['standard output arrived on standard output', result.stdout === 'to stdout\n'],
    ['standard error arrived on standard error', result.stderr === 'to stderr\n'],
    [`the exit code is the command's: ${String(result.exitCode)}`, result.exitCode === 7],
  ];
}

async function cpuScene(redis: string): Promise<Check[]> {
  title('A CPU limit holds: a busy loop with a fifth of a core');
  const loop =
    'end=$(($(date +%s)+4)); while [ $(date +%s) -lt $end ]; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; done';
  await kaon(redis, ['run', '--name', 'busy', '--cpus', String(CPU_SHARE), '--', 'sh', '-c', loop]);
  const { status } = await endedTask(redis, 'busy');
  const {
    cpuUsec = NaN,
    startedAtMs = NaN,
    endedAtMs = NaN,
    throttledUsec = 0,
  } = status?.certificate ?? {};
  const used = cpuUsec / 1000 / (endedAtMs - startedAtMs);
  out(
    dim(
      `  ran ${((endedAtMs - startedAtMs) / 1000).toFixed(1)} s, used ${(cpuUsec / 1e6).toFixed(2)} s of CPU, was held back for ${(throttledUsec / 1e6).toFixed(1)} s`,
    ),
  );
  return [
    [`it used ${used.toFixed(2)} of a core`, used > CPU_SHARE * 0.7 && used < CPU_SHARE * 1.2],
  ];
}

async function memoryScene(redis: string): Promise<Check[]> {
  title('A memory limit holds: 200 MiB in a task of 64 MiB');
  const script = `const all = []; for (let i = 0; i < 20; i += 1) all.push(Buffer.alloc(10 << 20, 1)); console.log('never', all.length);`;
  const result = await kaon(redis, [
    'run',
    '--name',
    'greedy',
    '--mem',
    '64M',
    '--',
    process.execPath,
    '--max-old-space-size=40',
    '-e',
    script,
  ]);
  const { state, status } = await endedTask(redis, 'greedy');
  const peak = status?.certificate?.memoryPeakBytes ?? 0;
  return [
    [`it ended as ${state}`, state === 'TASK_FAILED'],
    [
      `the reason is the memory limit: ${status?.reason ?? 'none'}`,
      status?.reason === 'REASON_CONTAINER_LIMITATION_MEMORY',
    ],
    [`the peak is on the certificate: ${formatBytes(peak)}`, peak > 50 << 20 && peak <= 64 << 20],
    [
      `exit code ${String(result.exitCode)}, and nothing it printed got out`,
      result.exitCode === 137 && result.stdout === '',
    ],
  ];
}

async function queueScene(redis: string): Promise<Check[]> {
  title('More work than fits waits, and says why: three tasks of one core on two');
  const names = ['first', 'second', 'third'];
  const runs = names.map((name) =>
    kaon(redis, ['run', '--name', name, '--cpus', '1', '--mem', '64M', '--', 'sleep', '3'], {
      quiet: true,
    }),
  );
  const results = await Promise.all(runs);
  const waited = results.filter(({ stderr }) => stderr.includes('waiting:'));
  for (const { stderr } of waited) out(dim(`  ${stderr.trim()}`));
  return [
    ['all three ran to their end', results.every(({ exitCode }) => exitCode === 0)],
    ['one of them had to wait, and said why', waited.length === 1],
    ['it ran when there was room', Math.max(...results.map(({ tookMs }) => tookMs)) >= 6000],
  ];
}

async function killScene(redis: string): Promise<Check[]> {
  title('A task can be left running, looked at, and killed');
  const started = await kaon(redis, ['run', '--name', 'sleeper', '--detach', '--', 'sleep', '300']);
  const taskId = started.stdout.trim();
  await kaon(redis, ['tasks']);
  const killed = await kaon(redis, ['kill', taskId]);
  const { state, status } = await endedTask(redis, 'sleeper');
  return [
    [`it was started as ${taskId}`, started.exitCode === 0 && taskId.startsWith('sleeper.')],
    [
      `it ended as ${state}: ${status?.message ?? ''}`,
      killed.exitCode === 0 && state === 'TASK_KILLED',
    ],
  ];
}

/** What nobody expects of a scheduler: its own death does not matter to the tasks. */
async function survivalScene(redis: string): Promise<Check[]> {
  title('Tasks outlive the agent: it is killed with SIGKILL while a task runs');
  const script = 'for i in 1 2 3 4; do echo $i; sleep 1; done; exit 3';
  let sawOutput: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    sawOutput = resolve;
  });
  const argv = ['run', '--name', 'survivor', '--', 'sh', '-c', script];
  const running = kaon(redis, argv, { onOutput: () => sawOutput() });
  await Promise.race([begun, running]);
  const agents = processesOf(redis);
  for (const pid of agents) process.kill(pid, 'SIGKILL');
  const result = await running;
  return [
    [`the agent was killed (pid ${agents.join(', ')})`, agents.length === 1],
    ['no line of the output is missing or doubled', result.stdout === '1\n2\n3\n4\n'],
    [
      `the next agent reported its end: exit code ${String(result.exitCode)}`,
      result.exitCode === 3,
    ],
  ];
}

/** The agent of this cluster, by its command line: the address is in a directory of this demonstration. */
function processesOf(redis: string): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      return argv[argv.indexOf(KAON) + 1] === 'agent' && argv.includes(redis) ? [Number(name)] : [];
    } catch {
      return []; // It ended between the two looks.
    }
  });
}

async function endedTask(redis: string, name: string): Promise<EndedTask> {
  const { stdout } = await kaon(redis, ['tasks', '--all', '--json'], { quiet: true });
  const task = (JSON.parse(stdout) as EndedTask[]).find((each) => each.name === name);
  if (!task) throw new Error(`no task named ${name} in kaon tasks --all`);
  return task;
}

function title(text: string): void {
  out(`\n${bold(text)}`);
}

/** Runs the command line as a person would, and shows it. */
function kaon(
  redis: string,
  args: readonly string[],
  options: { quiet?: boolean; onOutput?: () => void } = {},
): Promise<Result> {
  const startedAtMs = performance.now();
  const show = options.quiet !== true;
  if (show) out(`${dim('$')} kaon ${args.map(quote).join(' ')}`);
  const child = spawn(process.execPath, [KAON, ...args], {
    env: { ...process.env, KAON_REDIS: redis },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    options.onOutput?.();
    if (show) process.stdout.write(indent(chunk.toString()));
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    if (show) process.stdout.write(indent(chunk.toString()));
  });
  return new Promise((resolve) => {
    child.once('close', (exitCode) => {
      resolve({ stdout, stderr, exitCode, tookMs: performance.now() - startedAtMs });
    });
  });
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '  ');
}

function quote(argument: string): string {
  if (/^[\w@%+=:,./-]+$/.test(argument)) return argument;
  const short = argument.length > 76 ? `${argument.slice(0, 73)}...` : argument;
  return `'${short}'`;
}

main().then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error: unknown) => {
    out(red(String(error)));
    process.exitCode = 1;
  },
);
