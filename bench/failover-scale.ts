/**
 * Ten thousand agents and fifty thousand tasks: how long they all need to be registered again when Redis restarts, and
 * how long a master needs to take them over.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { keysOf } from '../protocol/keys.ts';
import { ask, CLUSTER, ended, FailoverBed, until } from './failover-bed.ts';
import type { CrowdAccount } from './failover-crowd.ts';
import type { Figure } from './harness.ts';
import { median, percentile } from './harness.ts';
import type { Reply } from './lean-redis.ts';
import { LeanRedis } from './lean-redis.ts';

const AGENTS = 10_000;
const SLOTS = 5;
const TASKS = AGENTS * SLOTS;
const RESTARTS = 3;
const TAKEOVERS = 5;
const LOOK_MS = 5;
/** After all is done, for what follows of it, milliseconds. */
const QUIET_MS = 3000;

/** @returns figures of the large cluster */
export async function measureScale(): Promise<Figure[]> {
  const bed = await FailoverBed.open({ appendonly: 'yes' });
  try {
    await bed.startMaster();
    await bed.startMaster();
    const { url } = bed.redis;
    const crowd = bed.startPart('failover-crowd', {
      url,
      cluster: CLUSTER,
      agents: AGENTS,
      slots: SLOTS,
    });
    const look = (sinceMs: number): Promise<CrowdAccount> =>
      ask<CrowdAccount>(crowd, { type: 'look', sinceMs });
    await until('all register', async () => (await look(0)).registered === AGENTS, 250);
    await sleep(QUIET_MS);
    const restarts = await measureRestarts(bed, look);
    crowd.send({ type: 'launch' });
    await until('all tasks run', async () => (await look(0)).running === TASKS, 250);
    await sleep(QUIET_MS);
    const { failed } = await look(0);
    if (failed > 0) throw new Error(`${failed} tasks of the crowd failed`);
    return [...(await measureTakeovers(bed)), ...restarts];
  } finally {
    await bed.close();
  }
}

/** One restart of Redis; times in milliseconds. */
interface Restart {
  /** From the kill until it answers again. */
  readonly redisMs: number;
  /** From the kill to the first registration that was committed, and until the last agent has heard of its own. */
  readonly firstMs: number;
  readonly allMs: number;
  /** Most registrations of one second, /s. */
  readonly peak: number;
  /** Longest time without a commit while agents were registering. */
  readonly gapMs: number;
}

async function measureRestarts(
  bed: FailoverBed,
  look: (sinceMs: number) => Promise<CrowdAccount>,
): Promise<Figure[]> {
  const restarts: Restart[] = [];
  for (let run = 0; run < RESTARTS; run += 1) {
    const killedAtMs = Date.now();
    await bed.redis.restart();
    const redisMs = Date.now() - killedAtMs;
    let account = await look(killedAtMs);
    await until(
      'all register again',
      async () => (account = await look(killedAtMs)).registered === AGENTS,
      50,
    );
    const times = await registrationsSince(bed.redis.socketPath, killedAtMs);
    restarts.push({
      redisMs,
      firstMs: (times[0] ?? NaN) - killedAtMs,
      allMs: account.lastRegisteredAtMs - killedAtMs,
      peak: peakOf(times),
      gapMs: times.reduce((gap, at, index) => Math.max(gap, at - (times[index - 1] ?? at)), 0),
    });
    await sleep(QUIET_MS);
  }
  const worst = (of: (restart: Restart) => number): number => Math.max(...restarts.map(of));
  const name = `restart of Redis, ${AGENTS} agents, ${RESTARTS} runs`;
  return [
    { name: `${name}: Redis away, max`, value: worst(({ redisMs }) => redisMs), unit: 'ms' },
    {
      name: `${name}: to the first registration, max`,
      value: worst(({ firstMs }) => firstMs),
      unit: 'ms',
    },
    {
      name: `${name}: all registered, p50`,
      value: median(restarts.map(({ allMs }) => allMs)),
      unit: 'ms',
    },
    {
      name: `${name}: all registered, max`,
      value: worst(({ allMs }) => allMs),
      unit: 'ms',
      mark: { atMost: 10_000 },
    },
    { name: `${name}: most registrations in a second`, value: worst(({ peak }) => peak), unit: '' },
    {
      name: `${name}: longest time without a commit meanwhile`,
      value: worst(({ gapMs }) => gapMs),
      unit: 'ms',
    },
  ];
}

/** When agents were registered, by the clock of Redis, one time for each, oldest first. */
async function registrationsSince(socketPath: string, sinceMs: number): Promise<number[]> {
  const redis = await LeanRedis.open(socketPath);
  const reply = await redis.call('XRANGE', keysOf(CLUSTER).events, sinceMs, '+');
  redis.close();
  return (reply as [string, string[]][]).flatMap(([id, [, events = '[]']]) =>
    (JSON.parse(events) as { type: string }[])
      .filter(({ type }) => /^agent\.(re)?registered$/.test(type))
      .map(() => Number(id.split('-')[0])),
  );
}

function peakOf(times: readonly number[]): number {
  let from = 0;
  let peak = 0;
  for (const [index, at] of times.entries()) {
    while ((times[from] ?? at) <= at - 1000) from += 1;
    peak = Math.max(peak, index - from + 1);
  }
  return peak;
}

/** One takeover; times in milliseconds since the old leader was told to stop. */
interface Takeover {
  readonly acquiredMs: number;
  readonly loadedMs: number;
  readonly committedMs: number;
  /** The least that was left of the lease from then until a while later. */
  readonly leaseLeftMs: number;
  readonly peakMb: number;
}

async function measureTakeovers(bed: FailoverBed): Promise<Figure[]> {
  const takeovers: Takeover[] = [];
  const redis = await LeanRedis.open(bed.redis.socketPath);
  for (let run = 0; run < TAKEOVERS; run += 1) {
    takeovers.push(await measureTakeover(bed, redis));
    await bed.startMaster();
  }
  redis.close();
  const all = (of: (takeover: Takeover) => number): number[] => takeovers.map(of);
  const committedMs = all((takeover) => takeover.committedMs);
  const name = `takeover of ${AGENTS} agents and ${TASKS} tasks, ${TAKEOVERS} runs`;
  return [
    { name: `${name}: lease, p50`, value: median(all((t) => t.acquiredMs)), unit: 'ms' },
    { name: `${name}: loaded, p50`, value: median(all((t) => t.loadedMs)), unit: 'ms' },
    {
      name: `${name}: first commit, p50`,
      value: percentile(committedMs, 0.5),
      unit: 'ms',
      mark: { atMost: 2000 },
    },
    { name: `${name}: first commit, max`, value: Math.max(...committedMs), unit: 'ms' },
    {
      name: `${name}: least that was left of the lease`,
      value: Math.min(...all((t) => t.leaseLeftMs)),
      unit: 'ms',
    },
    { name: `${name}: most memory`, value: Math.max(...all((t) => t.peakMb)), unit: 'MB' },
  ];
}

async function measureTakeover(bed: FailoverBed, redis: LeanRedis): Promise<Takeover> {
  const old = bed.leader();
  const before = await lookAt(redis);
  const startedAtMs = Date.now();
  old.child.kill('SIGTERM');
  let acquiredMs = NaN;
  let committedMs = NaN;
  let leaseLeftMs = Infinity;
  await until(
    'the next master leads and has committed',
    async () => {
      const now = await lookAt(redis);
      const sinceMs = Date.now() - startedAtMs;
      if (now.token === before.token || now.token === null) return false;
      if (Number.isNaN(acquiredMs)) acquiredMs = sinceMs;
      if (now.snapshot !== before.snapshot && Number.isNaN(committedMs)) committedMs = sinceMs;
      leaseLeftMs = Math.min(leaseLeftMs, now.leaseLeftMs);
      return sinceMs > committedMs + 1000;
    },
    LOOK_MS,
  );
  await ended(old.child);
  await bed.remove(old);
  const next = bed.leader();
  const loadedMs = (next.loggedAtMs('master.leading') ?? NaN) - startedAtMs;
  return { acquiredMs, loadedMs, committedMs, leaseLeftMs, peakMb: peakMbOf(next.pid) };
}

/** Who leads, what is left of the lease, and the newest snapshot, which comes with the first commit of a term. */
interface LookAt {
  readonly token: Reply;
  readonly leaseLeftMs: number;
  readonly snapshot: string;
}

async function lookAt(redis: LeanRedis): Promise<LookAt> {
  const { leader, snapshots } = keysOf(CLUSTER);
  const [token, leftMs, stream] = await Promise.all([
    redis.call('GET', leader),
    redis.call('PTTL', leader),
    redis.call('XINFO', 'STREAM', snapshots),
  ]);
  const facts = stream as Reply[];
  const snapshot = String(facts[facts.indexOf('last-generated-id') + 1]);
  return { token: token ?? null, leaseLeftMs: Number(leftMs), snapshot };
}

/** The most memory that a process has ever had, megabytes (10^6). */
function peakMbOf(pid: number): number {
  const kib = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1];
  return (Number(kib) * 1024) / 1e6;
}
