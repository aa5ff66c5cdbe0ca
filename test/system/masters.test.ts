/** Masters as real processes: what becomes of the leadership when the leader dies, is stopped, or is told to step down. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { hostname } from 'node:os';
import { silentLog } from '../../io/log.ts';
import { openRedisStore, type RedisStore } from '../../io/redis-store.ts';
import type { Lease } from '../../io/store.ts';
import { masterIdOfInvocation } from '../../protocol/ids.ts';
import { bedReason } from '../beds/available.ts';
import { KAON, startCommand, until, type Running } from '../beds/cluster.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
/** Far longer than any test: nothing here happens because a lease is over. */
const LEASE = '10m';

suite(`masters${reason === undefined ? '' : ` (${reason})`}`, () => {
  let redis: RedisBed;
  let store: RedisStore;
  let masters: Running[];

  beforeEach(async () => {
    redis = await startRedisBed({ appendonly: 'yes' });
    store = await openRedisStore({ url: redis.url, cluster: 'c', log: silentLog, name: 'test' });
    masters = [];
  });
  afterEach(async () => {
    for (const master of masters) master.child.kill('SIGKILL');
    await Promise.all(masters.map((master) => master.ended));
    await store.close();
    await redis.stop();
  });

  function kaon(environment: Record<string, string>, ...args: string[]): Running {
    const common = { KAON_REDIS: redis.url, KAON_CLUSTER: 'c', SYSTEMD_EXEC_PID: '1' };
    return startCommand([process.execPath, KAON, ...args], { ...common, ...environment });
  }

  /** Starts a leader and a standby. */
  async function startTwo(environment: Record<string, string> = {}): Promise<Running> {
    const leader = kaon(environment, 'master', '--lease', LEASE);
    masters.push(leader);
    await leader.seen('master.leading');
    const standby = kaon({}, 'master', '--lease', LEASE);
    masters.push(standby);
    await standby.seen('master.standby');
    return leader;
  }

  /** The next leader. */
  async function nextLeader(before: Lease | undefined): Promise<Lease> {
    let leader: Lease | undefined;
    await until(async () => {
      leader = await store.leader();
      return leader !== undefined && leader.epoch !== before?.epoch;
    });
    if (!leader) throw new Error('nobody leads');
    return leader;
  }

  test('a leader that is killed is replaced long before its lease is over', async () => {
    const running = await startTwo();
    const before = await store.leader();
    running.child.kill('SIGKILL');
    const leader = await nextLeader(before);
    expect(leader.epoch).toBe((before?.epoch ?? 0) + 1);
    expect(leader.masterId).not.toBe(before?.masterId);
  }, 120_000);

  test('a leader that is stopped hands over at once, and ends', async () => {
    const running = await startTwo();
    const before = await store.leader();
    running.child.kill('SIGTERM');
    const leader = await nextLeader(before);
    expect(leader.masterId).not.toBe(before?.masterId);
    expect((await running.ended).exitCode).toBe(0);
  }, 120_000);

  test('kaon step-down --current moves the leadership, and both masters live on', async () => {
    const running = await startTwo();
    const before = await store.leader();
    const { stdout, exitCode } = await kaon({}, 'step-down', '--current').ended;
    const after = await nextLeader(before);
    expect(exitCode).toBe(0);
    expect(stdout).toBe(
      `master ${String(before?.masterId)} has stepped down; master ${after.masterId} leads, epoch ${String((before?.epoch ?? 0) + 1)}\n`,
    );
    expect(after.masterId).not.toBe(before?.masterId);
    await running.seen('master.stepped-down');
    expect(running.child.exitCode).toBeNull();
  }, 120_000);

  test('kaon step-down of a unit names the master of the same start, and no other', async () => {
    const invocationId = 'feedfacefeedfacefeedfacefeedface';
    const ours = { INVOCATION_ID: invocationId };
    const masterId = masterIdOfInvocation(hostname(), invocationId);
    const old = await kaon(ours, 'step-down').ended;
    expect(old).toMatchObject({
      stdout: `master ${masterId} did not lead; no master does\n`,
      exitCode: 0,
    });
    // Stopped: its kernel keeps the connection, so only the hook can tell that it is over.
    const leader = startCommand(
      ['sh', '-c', `SYSTEMD_EXEC_PID=$$ exec ${process.execPath} ${KAON} master --lease ${LEASE}`],
      { ...ours, KAON_REDIS: redis.url, KAON_CLUSTER: 'c' },
    );
    masters.push(leader);
    await leader.seen('master.leading');
    expect(await store.leader()).toMatchObject({ masterId });
    leader.child.kill('SIGSTOP');
    const { stdout, exitCode } = await kaon(ours, 'step-down').ended;
    expect({ stdout, exitCode }).toEqual({
      stdout: `master ${masterId} does not lead any more\n`,
      exitCode: 0,
    });
    expect(await store.leader()).toBeUndefined();
  }, 120_000);

  test('a leader whose Redis restarts leads again, in a new term', async () => {
    const leader = kaon({}, 'master', '--lease', LEASE);
    masters.push(leader);
    await leader.seen('master.leading');
    const before = await store.leader();
    await redis.restart();
    const after = await nextLeader(before);
    expect(after.masterId).toBe(before?.masterId);
    await leader.seen('master.stepped-down epoch=');
  }, 120_000);
});
