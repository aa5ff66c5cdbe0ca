/** `kaon dev`: a whole cluster on this machine, in the foreground: Redis, a master, an agent with real units. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { SandboxSettings } from '../../agent/sandboxing.ts';
import { silentLog } from '../../io/log.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { codeOf, KaonError } from '../../protocol/errors.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { formatResources } from '../../protocol/resources.ts';
import { RELAXATION_NAMES } from '../../protocol/sandboxing.ts';
import { agentPlace, startAgent } from '../dev/agent.ts';
import type { DevAgent } from '../dev/agent.ts';
import { startChild, waitUntilReady } from '../dev/children.ts';
import type { Child } from '../dev/children.ts';
import { startRedis } from '../dev/redis.ts';
import type { DevRedis } from '../dev/redis.ts';
import type { DevCommandOptions } from '../options.ts';
import { sandboxArguments } from '../sandbox-options.ts';
import { readCluster } from '../registry.ts';
import type { StatedResources } from '../resource-flags.ts';
import { writeResources } from '../resource-flags.ts';
import { paintFor } from '../style.ts';

/** Kept between runs, so that history and logs are still there the next time. */
const STATE_DIRECTORY_DEFAULT = '/var/lib/kaon/dev';

/**
 * MiB of V8's young generation, a third of it in use at a time: by default it grows to 16 and stays there, which is a
 * third of an agent's memory and gains it nothing.
 */
const AGENT_HEAP_FLAG = '--max-semi-space-size=2';

/** Runs until Ctrl-C or SIGTERM, or until a part of it ends by itself. @returns the exit code */
export async function dev(options: DevCommandOptions): Promise<number> {
  agentPlace(); // Says what is missing before anything is started.
  const stateDir = resolve(options.stateDirectory ?? STATE_DIRECTORY_DEFAULT);
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
    say('kaon dev: stopped; nothing is left running');
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
  options: DevCommandOptions,
  stateDir: string,
  running: { stop(): Promise<void> }[],
): Promise<Started> {
  const redis = options.redis === undefined ? await startRedis(stateDir) : useRedis(options.redis);
  running.push(redis.child);
  const common = ['--redis', redis.url, '--cluster', options.cluster];
  const kaon = [process.execPath, process.argv[1] ?? 'kaon'];
  const masterLog = join(stateDir, 'master.log');
  const master = startChild({
    name: 'master',
    logPath: masterLog,
    argv: [...kaon, 'master', ...common],
  });
  running.push(master);
  const [node = '', ...program] = kaon;
  const agentArgv = [
    node,
    AGENT_HEAP_FLAG,
    ...program,
    'agent',
    ...common,
    '--state-dir',
    stateDir,
    ...agentArguments(options),
    ...sandboxArguments(devSandboxing(options.sandboxing, redis.url)),
  ];
  const agent = await startAgent(stateDir, agentArgv);
  running.push(agent);
  const store = new RedisStore({
    url: redis.url,
    cluster: options.cluster,
    log: silentLog,
    name: 'dev',
  });
  running.push({ stop: () => store.close() });
  await waitUntilReady(master, masterLog, async () => (await store.leader()) !== undefined);
  const agentLog = join(stateDir, 'agent.log');
  const agentReady = async (): Promise<boolean> => (await activeAgent(store)) !== undefined;
  await waitUntilReady({ name: 'agent', exited: agent.exited }, agentLog, agentReady);
  return { store, redis, master, agent };
}

/** A Redis that somebody else runs: it is neither started nor stopped. */
function useRedis(url: string): DevRedis {
  const child = {
    name: 'redis',
    pid: 0,
    exited: new Promise<never>(() => undefined),
    stop: () => Promise.resolve(),
  };
  return { url, child };
}

/** Resolves with the name of the first part that ends by itself. */
async function firstToEnd({ redis, master, agent }: Started): Promise<string> {
  return Promise.race([
    redis.child.exited.then(() => 'redis-server'),
    master.exited.then(() => 'the master'),
    agent.exited.then(() => 'the agent'),
  ]);
}

/**
 * One person's own machine: tasks are root unless said otherwise, and may do without any part of the sandbox that all of them
 * have. What they run may need the Redis of the cluster, which may be where they do not look.
 */
function devSandboxing(given: SandboxSettings, redisUrl: string): SandboxSettings {
  const [, socket] = /^unix:\/\/(\/[^?]+)/.exec(redisUrl) ?? [];
  const shown = socket === undefined ? [] : [dirname(socket)];
  return {
    taskUser: 'root',
    allowRoot: true,
    allowUsers: ['*'],
    allowRelax: RELAXATION_NAMES,
    ...given,
    expose: [...shown, ...(given.expose ?? [])],
  };
}

function agentArguments(options: DevCommandOptions): string[] {
  const { resources, numbers, reserve, attributes, reserveFor } = options;
  return [
    ...vectorFlag('--resources', { ...resources, ...(numbers && { numbers }) }),
    ...vectorFlag('--reserve', reserve),
    ...Object.entries(attributes).flatMap(([key, value]) => ['--attribute', `${key}=${value}`]),
    ...reserveFor.flatMap(({ role, resources: kept }) => {
      return vectorFlag('--reserve-for', kept).map((part, index) => {
        return index === 0 ? part : `${role}:${part}`;
      });
    }),
  ];
}

/** `--resources cpus=0.5,mem=256M`; nothing for an empty vector. */
function vectorFlag(flag: string, stated: StatedResources): string[] {
  const value = writeResources(stated);
  return value === '' ? [] : [flag, value];
}

/** The agent of this machine, once it has registered. */
async function activeAgent(store: RedisStore): Promise<AgentRecord | undefined> {
  const { agents } = await readCluster(store);
  return agents.find(({ state, info }) => state === 'active' && info.hostname === hostname());
}

async function describe({ store, redis, agent }: Started, stateDir: string): Promise<void> {
  const found = await activeAgent(store);
  const leader = await store.leader();
  const facts = found
    ? `systemd ${found.info.attributes['systemd'] ?? '?'}, cgroup ${found.info.attributes['cgroup'] ?? '?'}`
    : '';
  say(`${paintFor(process.stderr)('bold', 'kaon dev')}: a cluster on this machine
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
      throw new KaonError(
        'dev-running',
        `kaon dev runs already in ${stateDir} (pid ${String(owner)})`,
        {
          hint: 'use that one, or choose another --state-dir',
        },
      );
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
    return readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8')
      .split('\0')
      .includes('dev');
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
