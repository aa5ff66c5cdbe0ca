/** The checkers find what they are there to find: each test breaks one thing in the evidence of a good run. */
import { describe, expect, test } from '@jest/globals';
import type { TaskStatus } from '../../protocol/task.ts';
import { check, type Evidence } from './checks.ts';
import { commitReader, type TakenCommit } from './commits.ts';
import { planFaults, FAULTS } from './plan.ts';
import type { FrameworkRecord } from './records.ts';
import { parseRuns, type Kind, type PlannedTask, type RunLine } from './tasks.ts';
import { seededRandom } from '../sim/random.ts';

const LIMIT_BYTES = 16 << 20;

function planned(kind: Kind, exitCode = 0): PlannedTask {
  return { taskId: 't.1', kind, exitCode, seconds: 1, memMib: 16, killAfterMs: 0 };
}

function line(what: RunLine['what'], more: Partial<RunLine> = {}): RunLine {
  const exitCode = what === 'END' ? 0 : undefined;
  const rest = { taskId: 't.1', launchId: 'l1', pid: 7, atMs: 1000, limitBytes: LIMIT_BYTES };
  return { what, exitCode, ...rest, ...more };
}

function status(state: TaskStatus['state'], more: Partial<TaskStatus> = {}): TaskStatus {
  const certificate = { exitCode: 0, memoryPeakBytes: 1 << 20, memoryLimitBytes: LIMIT_BYTES };
  const ids = { frameworkId: 'f', taskId: 't.1' } as Pick<TaskStatus, 'frameworkId' | 'taskId'>;
  return { ...ids, state, source: 'SOURCE_AGENT', certificate, ...more };
}

const launched = (task: PlannedTask): FrameworkRecord => ({
  type: 'launch',
  atMs: 900,
  agentId: 'node-1',
  task,
});
const told = (update: TaskStatus): FrameworkRecord => ({
  type: 'update',
  atMs: 2000,
  status: update,
});

const commit = (epoch: number, masterId: string, more: Partial<TakenCommit> = {}): TakenCommit => ({
  atMs: 1,
  epoch,
  masterId,
  life: 0,
  isToAgents: true,
  ...more,
});

/** A task that ran to its end and was told so; a test changes one part of it. */
function evidence(change: Partial<Evidence> = {}): Evidence {
  return {
    runs: [line('START'), line('END')],
    records: [launched(planned('finishes')), told(status('TASK_FINISHED'))],
    reboots: [],
    losses: [],
    commits: [commit(1, 'a')],
    ...change,
  };
}

const rules = (change: Partial<Evidence> = {}): string[] =>
  check(evidence(change)).map(({ rule }) => rule);

describe('the checkers find', () => {
  test('nothing in a run where all is well', () => {
    expect(rules()).toEqual([]);
  });

  test('a task that ran twice', () => {
    const runs = [line('START'), line('START', { launchId: 'l2', pid: 8 }), line('END')];
    expect(rules({ runs })).toEqual(['runs-once']);
  });

  test('a task that nobody launched', () => {
    expect(rules({ runs: [...evidence().runs, line('START', { taskId: 'x' })] })).toEqual([
      'never-asked',
    ]);
  });

  test('a task that was stopped though nobody asked', () => {
    const runs = [line('START'), line('TERM')];
    expect(rules({ runs })).toEqual(['never-stopped', 'agrees']);
  });

  test('a task that ended and was never told', () => {
    expect(rules({ records: [launched(planned('finishes'))] })).toEqual(['one-terminal-state']);
  });

  test('a launch that nobody knows of, though nothing was lost', () => {
    expect(rules({ runs: [], records: [launched(planned('finishes'))] })).toEqual([
      'one-terminal-state',
    ]);
  });

  test('a second end of another kind', () => {
    const lost = status('TASK_LOST');
    const records = [...evidence().records, told(lost)];
    expect(rules({ records })).toEqual(['one-terminal-state']);
  });

  test('a second end with another exit code', () => {
    const records = [
      launched(planned('fails', 3)),
      told(
        status('TASK_FAILED', {
          certificate: { ...status('TASK_FAILED').certificate, exitCode: 3 },
        }),
      ),
      told(status('TASK_FAILED', { certificate: { exitCode: 4 } })),
    ];
    expect(rules({ records, runs: [line('START'), line('END', { exitCode: 3 })] })).toEqual([
      'one-terminal-state',
    ]);
  });

  test('an exit code that is not that of the process', () => {
    expect(rules({ runs: [line('START'), line('END', { exitCode: 3 })] })).toEqual(['agrees']);
  });

  test('a loss of a task that ran to its end', () => {
    const records = [launched(planned('finishes')), told(status('TASK_LOST'))];
    expect(rules({ records })).toEqual(['agrees']);
  });

  test('an end of a task that never ran', () => {
    expect(rules({ runs: [] })).toEqual(['agrees']);
  });

  test('a task over its time that never ran', () => {
    const reason = 'REASON_MAX_COMPLETION_TIME_REACHED';
    const late = status('TASK_FAILED', { reason, certificate: { exitCode: 0 } });
    expect(rules({ runs: [], records: [launched(planned('over-time')), told(late)] })).toEqual([
      'agrees',
    ]);
  });

  test('a loss of a task that had ended long before its node was rebooted', () => {
    const records = [launched(planned('finishes')), told(status('TASK_LOST'))];
    const reboots = [{ agentId: 'node-1', fromMs: 22_000, toMs: 23_000 }];
    expect(rules({ records, reboots })).toEqual(['agrees']);
  });

  test('a wrong exit code of a task that ended shortly before its node was rebooted', () => {
    const certificate = { ...status('TASK_FAILED').certificate, exitCode: 4 };
    const wrong = status('TASK_FAILED', { certificate });
    const records = [launched(planned('fails', 3)), told(wrong)];
    const reboots = [{ agentId: 'node-1', fromMs: 1500, toMs: 1800 }];
    const runs = [line('START'), line('END', { exitCode: 3 })];
    expect(rules({ records, reboots, runs })).toEqual(['agrees']);
  });

  test('a kill that nobody asked for', () => {
    const records = [launched(planned('killed')), told(status('TASK_KILLED'))];
    expect(rules({ records, runs: [line('START')] })).toEqual(['never-stopped', 'agrees']);
  });

  test('a limit that was not in force, at the beginning or at the end', () => {
    const runs = [line('START', { limitBytes: 1 << 40 }), line('END', { limitBytes: 1 << 40 })];
    expect(rules({ runs })).toEqual(['certified', 'certified']);
  });

  test('a certificate without peak memory', () => {
    const certificate = { exitCode: 0, memoryLimitBytes: LIMIT_BYTES };
    const records = [launched(planned('finishes')), told(status('TASK_FINISHED', { certificate }))];
    expect(rules({ records })).toEqual(['certified']);
  });

  test('an epoch that goes back', () => {
    const commits = [commit(5, 'a', { isToAgents: false }), commit(4, 'b')];
    expect(rules({ commits })).toEqual(['one-leader']);
  });

  test('an epoch with two masters', () => {
    const commits = [commit(5, 'a', { isToAgents: false }), commit(5, 'b')];
    expect(rules({ commits })).toEqual(['one-leader']);
  });

  test('an epoch that agents have seen before Redis lost its data', () => {
    const commits = [commit(5, 'a'), commit(1, 'a', { life: 1 })];
    expect(rules({ commits })).toEqual(['one-leader-for-agents']);
  });

  test('that nobody was watched', () => {
    expect(rules({ commits: [] })).toEqual(['one-leader']);
  });

  test('a driver that was aborted', () => {
    const records = [
      ...evidence().records,
      { type: 'aborted', atMs: 5, message: 'moved' } as const,
    ];
    expect(rules({ records })).toEqual(['framework-goes-on']);
  });
});

describe('the checkers allow', () => {
  test('the same end told twice', () => {
    const again = told(status('TASK_FINISHED', { reason: 'REASON_RECONCILIATION' }));
    expect(rules({ records: [...evidence().records, again] })).toEqual([]);
  });

  test('a task that was on a node while it was rebooted to be lost', () => {
    const records = [launched(planned('long')), told(status('TASK_LOST'))];
    const reboots = [{ agentId: 'node-1', fromMs: 1500, toMs: 1800 }];
    expect(rules({ records, reboots, runs: [line('START')] })).toEqual([]);
  });

  test('a task that ended shortly before its node was rebooted to be lost', () => {
    const records = [launched(planned('finishes')), told(status('TASK_LOST'))];
    const reboots = [{ agentId: 'node-1', fromMs: 20_000, toMs: 21_000 }];
    expect(rules({ records, reboots })).toEqual([]);
  });

  test('a task over its time to be ended before it has said that it begins', () => {
    const late = status('TASK_FAILED', { reason: 'REASON_MAX_COMPLETION_TIME_REACHED' });
    const records = [launched(planned('over-time')), told(late)];
    expect(rules({ runs: [], records })).toEqual([]);
  });

  test('a task that was killed on request to have no end of its own', () => {
    const records: FrameworkRecord[] = [
      launched(planned('killed')),
      { type: 'kill', atMs: 1500, taskId: 't.1', by: 'framework' },
      told(status('TASK_KILLED')),
    ];
    expect(rules({ records, runs: [line('START'), line('TERM')] })).toEqual([]);
  });

  test('a Redis that has lost its data to begin with an early epoch while nothing reaches an agent', () => {
    const commits = [
      commit(5, 'a'),
      commit(1, 'b', { life: 1, isToAgents: false }),
      commit(6, 'b', { life: 1 }),
    ];
    expect(rules({ commits })).toEqual([]);
  });

  test('a launch that was lost on its way when Redis lost its data', () => {
    const records = [launched(planned('finishes'))];
    expect(rules({ runs: [], records, losses: [{ atMs: 1000 }] })).toEqual([]);
  });
});

describe('what the checkers read', () => {
  test('a line that was written in two halves is refused', () => {
    expect(() => parseRuns('START t.1 l1 7 10START t.2 l2 8 1000 - 16\n')).toThrow(/not a line/);
  });

  test('a commit counts once its script has set the cursor, and a refused one does not', () => {
    const reader = commitReader();
    const keys = '"9" "k:leader" "k:cursor" "k:inbox" "k:events"';
    const script = (token: string): string =>
      `+1.5 [0 unix:/r] "EVALSHA" "abc" ${keys} "${token}" "17" "1700-0" "20000"`;
    const sent = '+1.5 [0 lua] "XADD" "kaon:{c}:agent:n1:s1" "*" "messages" "[]"';
    const taken = '+1.5 [0 lua] "SET" "k:cursor" "17 1700-0"';
    const lines = [script('4 old'), script('5 new'), sent, taken, taken, script('5 new'), taken];
    const got = lines.flatMap((line) => reader.read(line) ?? []);
    expect(got).toMatchObject([
      { epoch: 5, masterId: 'new', isToAgents: true },
      { epoch: 5, masterId: 'new', isToAgents: false },
    ]);
  });

  test('a plan has each kind of fault once before any twice, and is the same for a seed', () => {
    const plan = planFaults(seededRandom(3), 60);
    const kinds = plan.slice(0, Object.keys(FAULTS).length).map(({ kind }) => kind);
    expect(new Set(kinds).size).toBe(Object.keys(FAULTS).length);
    expect(planFaults(seededRandom(3), 60)).toEqual(plan);
  });
});
