/** Ports, GPUs and other units with numbers. */
import { describe, expect, test } from '@jest/globals';
import { createAgentState, registrationOf } from '../../../agent/core/state.ts';
import { environmentOf } from '../../../protocol/numbers.ts';
import type { Amounts } from '../../../protocol/resources.ts';
import { type AgentBench, createAgentBench, lines, messages } from '../../support/agent-bench.ts';
import { amount } from '../../support/builders.ts';
import { createExecutorBench } from './executor-bench.ts';

const RANGES = {
  ports: [
    [8080, 8080],
    [31000, 31002],
  ] as [number, number][],
  gpus: [[0, 1]] as [number, number][],
};

function agentWithNumbers(): AgentBench {
  const bench = createAgentBench();
  bench.state.numbers = RANGES;
  return bench;
}

function wanting(others: Amounts): { resources: ReturnType<typeof amount> } {
  return { resources: { ...amount(1, 128), others } };
}

describe('a task', () => {
  test('has the lowest numbers that nobody has, and finds them in its environment', () => {
    const bench = agentWithNumbers();
    bench.run('t1', wanting({ ports: 2 }));
    bench.run('t2', wanting({ ports: 1, gpus: 1 }));
    expect(bench.entry('t1')?.task.numbers).toEqual({ ports: [8080, 31000] });
    expect(bench.entry('t2')?.task).toMatchObject({
      numbers: { ports: [31001], gpus: [0] },
      command: { environment: { KAON_PORTS: '31001', KAON_PORTS_0: '31001', KAON_GPUS: '0' } },
    });
  });

  test('says them with every word on it', () => {
    const bench = agentWithNumbers();
    bench.run('t1', wanting({ gpus: 2 }));
    const told = [...bench.started('t1'), ...bench.ended('t1')];
    const numbers = messages(told, 'StatusUpdate').map(({ status }) => status.numbers);
    expect(numbers).toEqual([{ gpus: [0, 1] }, { gpus: [0, 1] }]);
  });

  test('leaves them to the next when it ends, acknowledged or not', () => {
    const bench = agentWithNumbers();
    bench.run('t1', wanting({ gpus: 2 }));
    bench.ended('t1');
    bench.run('t2', wanting({ gpus: 2 }));
    expect(bench.entry('t2')?.task.numbers).toEqual({ gpus: [0, 1] });
  });

  test('that is killed keeps them until it has ended', () => {
    const bench = agentWithNumbers();
    bench.run('t1', wanting({ gpus: 1 }));
    bench.started('t1');
    bench.kill('t1');
    bench.run('t2', wanting({ gpus: 1 }));
    expect(bench.entry('t2')?.task.numbers).toEqual({ gpus: [1] });
  });

  test('that wants none, or something without numbers, is as it was', () => {
    const bench = agentWithNumbers();
    bench.run('t1', wanting({ license: 3 }));
    expect(bench.entry('t1')?.task.numbers).toBeUndefined();
    expect(bench.entry('t1')?.task.command?.environment).toEqual({});
  });

  test('is dropped if fewer are left than the master believes', () => {
    const bench = agentWithNumbers();
    bench.run('t1', wanting({ gpus: 1 }));
    const [status] = messages(bench.run('t2', wanting({ gpus: 2 })), 'StatusUpdate');
    expect(status?.status).toMatchObject({
      state: 'TASK_DROPPED',
      reason: 'REASON_RESOURCES_UNKNOWN',
      message: 'gpus: 2 wanted, 1 are free on node7',
    });
    expect(bench.entry('t2')).toBeUndefined();
  });

  test('keeps what it has when the agent is told to have other ones', () => {
    const bench = agentWithNumbers();
    bench.run('t1', wanting({ ports: 1 }));
    bench.state.numbers = { ports: [[8080, 8081]] };
    bench.run('t2', wanting({ ports: 1 }));
    expect(['t1', 't2'].map((id) => bench.entry(id)?.task.numbers)).toEqual([
      { ports: [8080] },
      { ports: [8081] },
    ]);
  });

  test('of an executor has them too, and the container counts CPU and memory only', () => {
    const bench = createExecutorBench();
    bench.state.numbers = RANGES;
    bench.host('t1', { task: wanting({ gpus: 1 }) });
    bench.host('t2', { task: wanting({ gpus: 1 }) });
    expect(['t1', 't2'].map((id) => bench.entry(id)?.task.numbers)).toEqual([
      { gpus: [0] },
      { gpus: [1] },
    ]);
    expect(bench.executor.needed).toEqual(amount(2.1, 288));
  });
});

test('a resize changes CPU and memory, and nothing else', () => {
  const bench = agentWithNumbers();
  bench.run('t1', wanting({ gpus: 1 }));
  bench.started('t1');
  const { key, launchId } = bench.entry('t1') ?? {};
  if (!key || !launchId) throw new Error('t1 is not there');
  const limits = amount(2, 256);
  bench.do({ type: 'unit.resized', key, launchId, resizeId: 'r1' as never, limits });
  const [task] = registrationOf(bench.state).tasks;
  expect(task?.resources).toEqual({ ...limits, others: { gpus: 1 } });
});

test('an agent that says nothing has no numbers', () => {
  const state = createAgentState({ agentId: 'a1' as never, agentTag: 'a1', hostname: 'node7' });
  expect(state.numbers).toEqual({});
  const bench = createAgentBench();
  expect(lines(bench.run('t1', wanting({ gpus: 1 })))).toEqual(['start t1']);
});

test('variables are named after the resource', () => {
  expect(environmentOf({ 'fpga.x-1': [3, 7] })).toEqual({
    KAON_FPGA_X_1: '3,7',
    KAON_FPGA_X_1_0: '3',
    KAON_FPGA_X_1_1: '7',
  });
});
