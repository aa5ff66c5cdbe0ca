/** Directories of reservations with disk: what the agent decides, and what it does on its disk. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentEvent } from '../../../agent/core/events.ts';
import type { AgentState } from '../../../agent/core/state.ts';
import { createAgentState, registrationOf } from '../../../agent/core/state.ts';
import { DirectoryKeeper, openDirectory } from '../../../agent/directories.ts';
import type { Grant } from '../../../agent/sandboxing.ts';
import type { ExecutorInfo } from '../../../protocol/executor.ts';
import type { ReservationId } from '../../../protocol/ids.ts';
import type { Reservation } from '../../../protocol/reservations.ts';
import type { Log } from '../../../io/log.ts';
import { silentLog } from '../../../io/log.ts';
import { type AgentBench, createAgentBench, lines, messages } from '../../support/agent-bench.ts';
import {
  agentIdOf,
  amount,
  executorInfo,
  frameworkInfo,
  launchIdOf,
  taskInfo,
} from '../../support/builders.ts';

function reservationOf(id: string, role = 'eng'): Reservation {
  return {
    reservationId: id as ReservationId,
    role,
    resources: { ...amount(1, 1024), others: { disk: 4096 } },
    labels: {},
    isStatic: false,
  };
}

/** Sends a launch with disk of these reservations. */
function run(
  bench: AgentBench,
  taskId: string,
  ids: readonly string[],
  executor?: ExecutorInfo,
): ReturnType<AgentBench['do']> {
  const task = taskInfo(taskId, executor && { executor });
  return bench.do({
    type: 'message',
    message: {
      ...{ type: 'RunTask', framework: frameworkInfo('f1'), launchId: launchIdOf(`k-${taskId}`) },
      task,
      directories: ids.map((id) => reservationOf(id)),
      ...(executor && { executorLaunchId: launchIdOf(`x-${executor.executorId}`) }),
    },
  });
}

function remove(bench: AgentBench, id: string): ReturnType<AgentBench['do']> {
  const reservationId = id as ReservationId;
  return bench.do({ type: 'message', message: { type: 'RemoveDirectory', reservationId } });
}

function ended(
  bench: AgentBench,
  type: 'directory.removed' | 'directory.removal-failed',
  id: string,
): ReturnType<AgentBench['do']> {
  return bench.do({ type, reservationId: id as ReservationId });
}

describe('a launch with disk of a reservation', () => {
  test('has its directory, which is written down before the task is started', () => {
    const bench = createAgentBench();
    expect(lines(run(bench, 't1', ['r1', 'r2']))).toEqual([
      'directory r1',
      'directory r2',
      'start t1',
    ]);
    expect(bench.entry('t1')?.task.directories).toEqual(['r1', 'r2']);
  });

  test('is in what the agent says when it registers, with all that the reservation is', () => {
    const bench = createAgentBench();
    expect(registrationOf(bench.state).directories).toBeUndefined();
    run(bench, 't1', ['r1']);
    const { tasks, directories } = registrationOf(bench.state);
    expect(directories).toEqual([reservationOf('r1')]);
    expect(tasks[0]?.directories).toEqual(['r1']);
  });

  test('gives its executor the directory, and later tasks find it there', () => {
    const bench = createAgentBench();
    const executor = executorInfo('e1');
    run(bench, 't1', ['r1'], executor);
    const [entry] = bench.state.executors.values();
    expect(entry?.task.directories).toEqual(['r1']);
    run(bench, 't2', ['r1'], executor);
    expect(bench.entry('t2')?.state).toBe('TASK_STAGING');
  });

  test('is refused where the executor runs without the directory', () => {
    const bench = createAgentBench();
    const executor = executorInfo('e1');
    run(bench, 't1', [], executor);
    const [update] = messages(run(bench, 't2', ['r1'], executor), 'StatusUpdate');
    expect(update?.status).toMatchObject({
      state: 'TASK_DROPPED',
      message:
        'executor e1 was started for a task without disk of reservation r1, and cannot be given its directory now: use another executor',
    });
    expect(bench.entry('t2')).toBeUndefined();
    expect(bench.state.directories.size).toBe(0);
  });
});

describe('a directory that is to go', () => {
  test('goes at once if no task has it, and the master hears when it is gone', () => {
    const bench = createAgentBench();
    run(bench, 't1', ['r1']);
    bench.started('t1');
    bench.ended('t1');
    expect(lines(remove(bench, 'r1'))).toEqual(['remove directory r1']);
    expect(lines(remove(bench, 'r1'))).toEqual([]);
    expect(lines(ended(bench, 'directory.removed', 'r1'))).toEqual(['DirectoryRemoved']);
    expect(registrationOf(bench.state).directories).toBeUndefined();
  });

  test('stays as long as a task has it, whatever the master believes', () => {
    const bench = createAgentBench();
    run(bench, 't1', ['r1']);
    run(bench, 't2', ['r1']);
    bench.started('t1');
    bench.started('t2');
    expect(lines(remove(bench, 'r1'))).toEqual([]);
    expect(lines(bench.ended('t1'))).not.toContain('remove directory r1');
    expect(lines(bench.wait(3_600_000))).toEqual([]);
    expect(registrationOf(bench.state).doomed).toEqual(['r1']);
    expect(lines(bench.ended('t2'))).toContain('remove directory r1');
  });

  test('stays as long as an executor has it that has no task', () => {
    const bench = createAgentBench();
    const executor = executorInfo('e1');
    run(bench, 't1', ['r1'], executor);
    const [entry] = bench.state.executors.values();
    if (!entry) throw new Error('no executor');
    entry.tasks.clear();
    bench.state.tasks.clear();
    expect(lines(remove(bench, 'r1'))).toEqual([]);
    entry.hasEnded = true;
    expect(lines(bench.wait(0))).toContain('remove directory r1');
  });

  test('is given to no task any more', () => {
    const bench = createAgentBench();
    run(bench, 't1', ['r1']);
    remove(bench, 'r1');
    const [update] = messages(run(bench, 't2', ['r1']), 'StatusUpdate');
    expect(update?.status).toMatchObject({
      state: 'TASK_DROPPED',
      message: 'the directory of reservation r1 is being removed',
    });
  });

  test('that could not be removed is tried again a minute later', () => {
    const bench = createAgentBench();
    bench.state.directories.set('r1' as ReservationId, reservationOf('r1'));
    remove(bench, 'r1');
    expect(lines(ended(bench, 'directory.removal-failed', 'r1'))).toEqual([]);
    expect(lines(bench.wait(59_000))).toEqual([]);
    expect(lines(bench.wait(1000))).toEqual(['remove directory r1']);
  });

  test('and is not there is reported as gone', () => {
    const bench = createAgentBench();
    const [told] = messages(remove(bench, 'r7'), 'DirectoryRemoved');
    expect(told).toEqual({ type: 'DirectoryRemoved', reservationId: 'r7' });
  });
});

describe('on the disk', () => {
  let root = '';
  let logged: string[] = [];
  const log: Log = {
    ...silentLog,
    error: (event) => logged.push(event),
    warn: (event) => logged.push(event),
  };
  const own: Grant = { isDynamic: false };
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'kaon-directories-'));
    logged = [];
  });
  afterEach(() => {
    rmSync(root, { recursive: true, force: true });
  });

  function keeper(): {
    readonly state: AgentState;
    readonly keeper: DirectoryKeeper;
    readonly told: Promise<AgentEvent>;
  } {
    const state = createAgentState({ agentId: agentIdOf('a1'), agentTag: 'a1', hostname: 'n' });
    let tell: (event: AgentEvent) => void = () => undefined;
    const told = new Promise<AgentEvent>((done) => (tell = done));
    const options = {
      ...{ state, directory: root, log },
      tell: (event: AgentEvent): void => {
        tell(event);
      },
    };
    return { state, keeper: new DirectoryKeeper(options), told };
  }
  function note(reservation: Reservation): void {
    keeper().keeper.perform({ type: 'directory.note', reservation });
  }
  async function found(): Promise<string[]> {
    const next = keeper();
    await next.keeper.load();
    return [...next.state.directories.keys()];
  }

  test('the next agent knows what there is', async () => {
    const reservation = reservationOf('static:eng/prod', 'eng/prod');
    note(reservation);
    const next = keeper();
    await next.keeper.load();
    expect([...next.state.directories.values()]).toEqual([reservation]);
  });

  test.each([
    ['r1.k3x9.17', 'r1.k3x9.17'],
    ['static:eng/prod', 'static+3aeng+2fprod'],
    ['../../etc', '+2e.+2f..+2fetc'],
    ['static:größe', 'static+3agr+c3+b6+c3+9fe'],
  ])('reservation %s has the directory %s', (id, name) => {
    note(reservationOf(id));
    expect(readdirSync(join(root, 'directories'))).toEqual([name]);
  });

  test('a name that no file system takes is one all the same, and another for another', async () => {
    const ids = ['x', 'y'].map((end) => `static:${'ü'.repeat(127)}${end}`);
    for (const id of ids) note(reservationOf(id));
    expect((await found()).sort()).toEqual(ids);
  });

  test('what a task has left is there for the next one', () => {
    note(reservationOf('r1'));
    const path = openDirectory(root, 'r1' as ReservationId, own);
    writeFileSync(join(path, 'kept'), '');
    note(reservationOf('r1'));
    expect(openDirectory(root, 'r1' as ReservationId, own)).toBe(path);
    expect(readdirSync(path)).toEqual(['kept']);
    expect(statSync(path).mode & 0o777).toBe(0o700);
  });

  test('one that cannot be made says so', () => {
    expect(() => openDirectory(root, 'r1' as ReservationId, own)).toThrow(
      /^the directory of reservation r1 could not be made: ENOENT/,
    );
  });

  test('a user that comes and goes is refused', () => {
    note(reservationOf('r1'));
    expect(() => openDirectory(root, 'r1' as ReservationId, { isDynamic: true })).toThrow(
      /needs a user that is there after the task.* --task-user/,
    );
  });

  // Only root gives a directory away; the tests of CI are root.
  const asRoot = process.getuid?.() === 0 ? test : test.skip;
  asRoot('it is of the first user that has it, and no other is let in (needs root)', () => {
    note(reservationOf('r1'));
    const id = 'r1' as ReservationId;
    const as = (uid: number): Grant => {
      return { user: `u${String(uid)}`, ids: { uid, gid: uid }, isDynamic: false };
    };
    const path = openDirectory(root, id, as(4711));
    expect(statSync(path).uid).toBe(4711);
    expect(openDirectory(root, id, as(4711))).toBe(path);
    expect(() => openDirectory(root, id, as(4712))).toThrow(
      /has files of user 4711, and the task is to run as u4712 \(4712\).* chown -R/,
    );
    // Of root, and empty: an agent was killed between the two calls.
    chownSync(path, 0, 0);
    openDirectory(root, id, as(4712));
    expect(statSync(path).uid).toBe(4712);
  });

  test('one whose note is damaged is named and left alone', async () => {
    note(reservationOf('r1'));
    openDirectory(root, 'r1' as ReservationId, own);
    writeFileSync(join(root, 'directories', 'r1', 'reservation.json'), '{"role":');
    mkdirSync(join(root, 'directories', 'lost+found'));
    expect(await found()).toEqual([]);
    expect(logged).toEqual(['directory.bad', 'directory.bad']);
    expect(existsSync(join(root, 'directories', 'r1', 'data'))).toBe(true);
  });

  test('a removal takes all of it, and the next agent finishes one that was cut short', async () => {
    note(reservationOf('r1'));
    writeFileSync(join(openDirectory(root, 'r1' as ReservationId, own), 'kept'), '');
    const { keeper: doing, told } = keeper();
    doing.perform({ type: 'directory.remove', reservationId: 'r1' as ReservationId });
    expect(await told).toEqual({ type: 'directory.removed', reservationId: 'r1' });
    expect(readdirSync(join(root, 'directories'))).toEqual([]);
    mkdirSync(join(root, 'removed', 'r2', 'data'), { recursive: true });
    expect(await found()).toEqual([]);
    while (existsSync(join(root, 'removed', 'r2'))) await new Promise(setImmediate);
  });

  test('a removal that is not possible is said to have failed', async () => {
    note(reservationOf('r1'));
    writeFileSync(join(root, 'removed'), 'in the way');
    const { keeper: doing, told } = keeper();
    doing.perform({ type: 'directory.remove', reservationId: 'r1' as ReservationId });
    expect(await told).toEqual({ type: 'directory.removal-failed', reservationId: 'r1' });
    expect(logged).toEqual(['directory.remove-failed']);
    expect(await found()).toEqual(['r1']);
  });
});
