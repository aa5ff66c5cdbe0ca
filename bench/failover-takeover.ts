/** How long no task is launched when a leader dies, freezes, is stopped or is upgraded, and whether anything is lost. */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { MASTER_SETTINGS_DEFAULT } from '../master/master.ts';
import type { OfferId } from '../protocol/ids.ts';
import { keysOf } from '../protocol/keys.ts';
import type { MasterProcess } from './failover-bed.ts';
import { ask, CLUSTER, ended, FailoverBed, until } from './failover-bed.ts';
import type { FirstLaunch, LoadAccount, LoadCommand } from './failover-load.ts';
import type { Figure } from './harness.ts';
import { median } from './harness.ts';
import { LeanRedis } from './lean-redis.ts';

const AGENTS = 100;
const EVERY_MS = 5;
const DEATHS = 15;
const FREEZES = 7;
const STOPS = 20;
const UPGRADES = 5;
const UPGRADED_MASTERS = 3;
/** Between a standby that listens and what happens to the leader, so that no two times are in step, milliseconds. */
const APART_MS = 500;
/** A master that was stopped has ended by then; a frozen one never does, milliseconds. */
const STOP_MS = 1000;

/** A bed with masters, under load. */
interface Loaded {
  readonly bed: FailoverBed;
  readonly load: ChildProcess;
  /** For questions to Redis. */
  readonly redis: LeanRedis;
}

/** @returns figures of every way in which a leader ends */
export async function measureTakeovers(): Promise<Figure[]> {
  return [
    ...(await withLoad(2, measureDeaths)),
    ...(await withLoad(2, measureHooks)),
    ...(await withLoad(2, measureFreezes)),
    ...(await withLoad(2, measureStops)),
    ...(await withLoad(UPGRADED_MASTERS, measureUpgrades)),
  ];
}

async function withLoad(
  masters: number,
  measure: (loaded: Loaded) => Promise<Figure[]>,
): Promise<Figure[]> {
  const bed = await FailoverBed.open({ appendonly: 'yes' });
  try {
    for (let index = 0; index < masters; index += 1) await bed.startMaster();
    const { socketPath } = bed.redis;
    const load = bed.startPart('failover-load', { socketPath, cluster: CLUSTER, agents: AGENTS });
    const redis = await LeanRedis.open(socketPath);
    await sleep(1000); // Its process starts, and registers.
    tell(load, { type: 'pace', everyMs: EVERY_MS });
    await until('launches arrive', async () => (await look(load)).epoch > 0, 100);
    await sleep(1000);
    await look(load);
    const figures = await measure({ bed, load, redis });
    redis.close();
    return figures;
  } finally {
    await bed.close();
  }
}

async function measureDeaths({ bed, load }: Loaded): Promise<Figure[]> {
  const tookMs = await takeovers({ bed, load }, DEATHS, ({ child }) => {
    child.kill('SIGKILL');
    return Promise.resolve();
  });
  return spread(`SIGKILL, ${DEATHS} runs`, tookMs, 250);
}

/** Where a standby may not ask for the connections, only the hook of the service tells it of a death. */
async function measureHooks({ bed, load, redis }: Loaded): Promise<Figure[]> {
  await redis.call('ACL', 'SETUSER', 'default', '-client|list');
  const tookMs = await takeovers({ bed, load }, DEATHS, async (master) => {
    master.child.kill('SIGKILL');
    await ended(master.child);
    await bed.stepDown(master);
  });
  return spread(`SIGKILL, told by the hook alone, ${DEATHS} runs`, tookMs, 250);
}

/** As a host that stands still: the connection stays open, and nobody says anything. */
async function measureFreezes({ bed, load }: Loaded): Promise<Figure[]> {
  const tookMs = await takeovers({ bed, load }, FREEZES, ({ child }) => {
    child.kill('SIGSTOP');
    return Promise.resolve();
  });
  return spread(`frozen, ${FREEZES} runs`, tookMs, MASTER_SETTINGS_DEFAULT.leaseMs + 500);
}

async function measureStops({ bed, load, redis }: Loaded): Promise<Figure[]> {
  const tookMs = await takeovers({ bed, load }, STOPS, ({ child }) => {
    child.kill('SIGTERM');
    return Promise.resolve();
  });
  const figures = spread(`SIGTERM, ${STOPS} runs`, tookMs, 200);
  return [...figures, ...(await accounts(`${STOPS} hand-overs`, { load, redis }))];
}

/** Each master is stopped and started anew, one after the other, the leader among them. */
async function measureUpgrades(loaded: Loaded): Promise<Figure[]> {
  const { bed, load } = loaded;
  const gapsMs: number[] = [];
  for (let upgrade = 0; upgrade < UPGRADES; upgrade += 1) {
    for (const master of [...bed.masters]) {
      master.child.kill('SIGTERM');
      await ended(master.child);
      await bed.remove(master);
      await bed.startMaster();
      await sleep(Math.random() * APART_MS);
    }
    gapsMs.push((await look(load)).longestGapMs);
  }
  const name = `upgrade of ${UPGRADED_MASTERS} masters one by one, ${UPGRADES} runs`;
  return [
    { name: `${name}: longest gap, p50`, value: median(gapsMs), unit: 'ms' },
    {
      name: `${name}: longest gap, max`,
      value: Math.max(...gapsMs),
      unit: 'ms',
      mark: { atMost: 1000 },
    },
    ...(await accounts(`${UPGRADES} upgrades`, loaded)),
  ];
}

/** Ends the leader again and again. @returns from each end to the first launch of the next leader, milliseconds */
async function takeovers(
  { bed, load }: Pick<Loaded, 'bed' | 'load'>,
  runs: number,
  end: (leader: MasterProcess) => Promise<void>,
): Promise<number[]> {
  const tookMs: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    await sleep(Math.random() * APART_MS);
    const leader = bed.leader();
    const first = ask<FirstLaunch>(load, { type: 'first', above: (await look(load)).epoch });
    const endedAtMs = Date.now();
    await end(leader);
    tookMs.push((await first).atMs - endedAtMs);
    await Promise.race([ended(leader.child), sleep(STOP_MS)]);
    await bed.remove(leader);
    await bed.startMaster();
  }
  return tookMs;
}

/** What was lost since the bed began: the load ends, and everything that was promised is counted. */
async function accounts(since: string, { load, redis }: Omit<Loaded, 'bed'>): Promise<Figure[]> {
  tell(load, { type: 'pace', everyMs: 0 });
  let account = await look(load);
  await until('every task ends', async () => {
    account = await look(load);
    return account.underWay === 0;
  });
  await sleep(1000); // What the last ones gave back is offered again.
  account = await look(load);
  const stored = (await redis.call('HKEYS', keysOf(CLUSTER).registry.offers)) as OfferId[];
  const inHand = new Set(account.offersInHand);
  const missed = stored.filter((offerId) => !inHand.delete(offerId)).length + inHand.size;
  const none = (name: string, value: number): Figure => ({
    name: `${since} under load: ${name}`,
    value,
    unit: '',
    mark: { atMost: 0 },
  });
  return [
    { name: `${since} under load: launches`, value: account.launches, unit: '' },
    none('launches refused', account.refused),
    none('offers voided', account.voided + missed),
    none('updates lost', account.updatesLost),
  ];
}

function spread(name: string, tookMs: readonly number[], atMostMs: number): Figure[] {
  return [
    { name: `${name}: p50`, value: median(tookMs), unit: 'ms', mark: { atMost: atMostMs } },
    { name: `${name}: max`, value: Math.max(...tookMs), unit: 'ms' },
  ];
}

function look(load: ChildProcess): Promise<LoadAccount> {
  return ask<LoadAccount>(load, { type: 'look' });
}

function tell(load: ChildProcess, command: LoadCommand): void {
  load.send(command);
}
