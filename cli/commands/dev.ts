/** `kaon dev`: a whole cluster on this machine, in the foreground: Redis, a master, an agent with real units. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { silentLog } from '../../io/log.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { codeOf, KaonError } from '../../protocol/errors.ts';
import { formatResources } from '../../protocol/resources.ts';
import { agentPlace, startAgent } from '../dev/agent.ts';
import type { DevAgent } from '../dev/agent.ts';
import { startChild, waitUntilReady } from '../dev/children.ts';
import type { Child } from '../dev/children.ts';
import { startRedis } from '../dev/redis.ts';
import type { DevRedis } from '../dev/redis.ts';
import type { DevOptions } from '../options.ts';
import { readAgents } from '../registry.ts';
import { bold, dim } from '../style.ts';

/** Runs until Ctrl-C or SIGTERM, or until a part of it ends by itself. @returns the exit code */
export async function dev(options: DevOptions): Promise<number> {
  agentPlace(); // Says what is missing before anything is started.
  const stateDir = resolve(options.stateDir);
  const unlock = lock(stateDir);
  const running: { stop(): Promise<void> }[] = [];
  const stopped = waitForSignal();
  try {
    // A Ctrl-C during the start waits for its end: what is half started could not be stopped in order.
    const started = await start(options, stateDir, running);
    await describe(started, stateDir);
    const end = await Promise.race([firstToEnd(started), stopped]);
    if (end === 'signal') return 0;
    say(`kaon dev: ${end} ended by itself; its log is in ${stateDir}`);
    return 1;
  } finally {
    // The reverse of the start: the agent first, so that nothing is reported into a Redis that is gone.
    for (const part of running.reverse()) await part.stop();
    unlock();
    say(dim('kaon dev: stopped; nothing is left running', process.stderr));
  }
}

/** The parts of a running cluster. */
interface Started {
  readonly store: RedisStore;
  readonly redis: DevRedis;
  readonly master: Child;
  readonly agent: DevAgent;
}

/** Starts the parts in order, each once the one before it answers; `running` holds what has to be stopped. */
async function start(
  options: DevOptions,
  stateDir: string,
  running: { stop(): Promise<void> }[],
): Promise<Started> {
  const redis = await startRedis(stateDir);
  running.push(redis.child);
  const common = ['--redis', redis.url, '--cluster', options.cluster];
  const kaon = [process.execPath, process.argv[1] ?? 'kaon'];
  const masterLog = join(stateDir, 'master.log');
  const master = startChild({ name: 'master', logPath: masterLog, argv: [...kaon, 'master', ...common] });
  running.push(master);
  const agentArgv = [...kaon, 'agent', ...common, '--state-dir', stateDir, ...agentArguments(options)];
  const agent = await startAgent(stateDir, agentArgv);
  running.push(agent);
  const store = new RedisStore({ url: redis.url, cluster: options.cluster, log: silentLog, name: 'dev' });
  running.push({ stop: () => store.close() });
  await waitUntilReady(master, masterLog, async () => (await store.leader()) !== undefined);
  const agentLog = join(stateDir, 'agent.log');
  const agentReady = async (): Promise<boolean> => (await activeAgent(store)) !== undefined;
  await waitUntilReady({ name: 'agent', exited: agent.exited }, agentLog, agentReady);
  return { store, redis, master, agent };
}

/** Resolves with the name of the first part that ends by itself. */
async function firstToEnd({ redis, master, agent }: Started): Promise<string> {
  return Promise.race([
    redis.child.exited.then(() => 'redis-server'),
    master.exited.then(() => 'the master'),
    agent.exited.then(() => 'the agent'),
  ]);
}

function agentArguments(options: DevOptions): string[] {
  return [
    ...(options.resources === undefined ? [] : ['--resources', options.resources]),
    ...(options.reserve === undefined ? [] : ['--reserve', options.reserve]),
    ...Object.entries(options.attributes).flatMap(([key, value]) => ['--attribute', `${key}=${value}`]),
  ];
}

async function activeAgent(store: RedisStore): Promise<Awaited<ReturnType<typeof readAgents>>[number] | undefined> {
  const agents = await readAgents(store);
  return agents.find(({ state, info }) => state === 'active' && info.hostname === hostname());
}

async function describe({ store, redis, agent }: Started, stateDir: string): Promise<void> {
  const found = await activeAgent(store);
  const leader = await store.leader();
  const facts = found ? `systemd ${found.info.attributes['systemd'] ?? '?'}, cgroup ${found.info.attributes['cgroup'] ?? '?'}` : '';
  say(`${bold('kaon dev', process.stderr)}: a cluster on this machine
  redis    ${redis.url}
  master   ${leader?.masterId ?? 'none'}, leading (epoch ${String(leader?.epoch ?? 0)})
  agent    ${found?.info.agentId ?? 'none'}: ${found ? formatResources(found.info.resources) : ''}
           ${agent.where}, ${facts}
  state    ${stateDir}

In another terminal:
  export KAON_REDIS=${redis.url}
  kaon run -- echo hello
  kaon tasks --all${agent.enter === '' ? '' : `\n  ${agent.enter} systemctl status 'kaon-*'`}

Ctrl-C ends all of it, tasks too.`);
}

/** One cluster a state directory: two would share a Redis file and an agent's id. */
function lock(stateDir: string): () => void {
  mkdirSync(stateDir, { recursive: true, mode: 0o711 });
  const path = join(stateDir, 'dev.pid');
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
  } catch (cause) {
    if (codeOf(cause) !== 'EEXIST') throw cause;
    const owner = Number(readFileSync(path, 'utf8'));
    if (isKaonDev(owner)) {
      throw new KaonError('dev-running', `kaon dev runs already in ${stateDir} (pid ${String(owner)})`, {
        hint: 'use that one, or choose another --state-dir',
      });
    }
    writeFileSync(path, String(process.pid));
  }
  return () => {
    rmSync(path, { force: true });
  };
}

/** A pid file outlives a crash, and its number may be another process's by now. */
function isKaonDev(pid: number): boolean {
  try {
    return readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8').split('\0').includes('dev');
  } catch {
    return false; // No such process.
  }
}

function waitForSignal(): Promise<'signal'> {
  return new Promise((resolveSignal) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      // Not `once`: the second Ctrl-C of an impatient person must not cut the clean-up off.
      process.on(signal, () => {
        resolveSignal('signal');
      });
    }
  });
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
