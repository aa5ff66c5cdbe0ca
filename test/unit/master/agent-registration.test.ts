/** Which registrations of an agent are taken, and what they teach the master beside the tasks. */
import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import { numberedSession } from '../../../protocol/ids.ts';
import {
  agentIdOf,
  agentTask,
  amount,
  launchIdOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import {
  benchWithRunning,
  createMasterBench,
  events,
  eventsOf,
  ignored,
  sends,
  sent,
  type MasterBench,
} from '../../support/master-bench.ts';

const older = numberedSession(7);
const newer = numberedSession(8);
const agentOf = (bench: MasterBench): unknown => bench.state.agents.get(agentIdOf('a1'))?.record;

/** Last words, as `SESSION CODE`. */
function farewells(effects: readonly MasterEffect[]): string[] {
  return effects.flatMap((effect) => {
    if (effect.type !== 'stream.end') return [];
    const { session, farewell } = effect;
    return [`${session} ${farewell && 'code' in farewell ? farewell.code : 'nothing'}`];
  });
}

describe('a session that was opened before the newest', () => {
  test('does not cut the living agent off', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { session: newer });
    const effects = bench.registerAgent('a1', { session: older });
    expect(ignored(effects)).toEqual(['a newer session has been registered']);
    expect(agentOf(bench)).toMatchObject({ session: newer });
  });

  test('is ignored also when the newest has ended', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { session: newer });
    bench.silence('agent:a1');
    const effects = bench.registerAgent('a1', { session: older });
    expect(ignored(effects)).toEqual(['a newer session has been registered']);
    expect(agentOf(bench)).toMatchObject({ state: 'unreachable' });
  });

  test('is ignored by the next leader', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { session: newer });
    expect(ignored(bench.failOver().registerAgent('a1', { session: older }))).toHaveLength(1);
  });

  test('and the newest one that comes twice after its end do not bring the agent back', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { session: newer });
    bench.silence('agent:a1');
    expect(bench.registerAgent('a1', { session: newer })).toEqual([]);
    expect(agentOf(bench)).toMatchObject({ state: 'unreachable' });
  });
});

describe('another installation with the id of an agent', () => {
  test('is refused while the first is connected, and the first goes on', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { node: 'n1' });
    const effects = bench.registerAgent('a1', { session: 's2', node: 'n2' });
    expect(farewells(effects)).toEqual(['s2 agent-id-taken']);
    expect(events(effects)).toEqual(['agent.refused']);
    expect(agentOf(bench)).toMatchObject({ node: 'n1', session: 's1' });
  });

  test('is told what it collides with, and so is the operator', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1', { node: 'n1', hostname: 'node7' });
    const effects = bench.registerAgent('a1', { session: 's2', node: 'n2', hostname: 'node8' });
    const message = 'agent a1 is known on node7, another installation, and is connected';
    expect(effects[0]).toMatchObject({ farewell: { type: 'AgentError', message } });
    expect(eventsOf(effects)).toMatchObject([
      { reason: 'agent-id-taken', message: `${message}; refused: node8` },
    ]);
  });

  test('is refused while the first is away with a task that may be running, and told the way out', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    const effects = bench.registerAgent('a1', { session: 's2', node: 'n2' });
    expect(farewells(effects)).toEqual(['s2 agent-id-taken']);
    expect(eventsOf(effects)[0]?.message).toContain(
      'with 1 task that may be running; if that node is gone for good: kaon gone a1',
    );
    expect(bench.task('f1', 't1')?.state).toBe('TASK_UNREACHABLE');
  });

  test('that reports another launch of the task is refused: it does not have what is running', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    const tasks = [agentTask('f1', 't1', { launchId: launchIdOf('9.x.1') })];
    const effects = bench.registerAgent('a1', { session: 's2', node: 'n2', tasks });
    expect(farewells(effects)).toEqual(['s2 agent-id-taken']);
  });

  test('that has the tasks of the first is the same node, installed anew', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    bench.registerAgent('a1', { session: 's2', node: 'n2', tasks: [agentTask('f1', 't1')] });
    expect(agentOf(bench)).toMatchObject({ node: 'n2', session: 's2', state: 'active' });
    expect(bench.task('f1', 't1')?.state).toBe('TASK_RUNNING');
  });

  test('takes the place of one that is away and has no task left', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.update('a1', taskStatus('f1', 't1', 'TASK_FINISHED'));
    bench.silence('agent:a1');
    bench.registerAgent('a1', { session: 's2', node: 'n2' });
    expect(agentOf(bench)).toMatchObject({ node: 'n2', session: 's2' });
  });

  test('takes the place of one that is gone', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.say('operator:ann', { type: 'MarkAgentGone', agentId: agentIdOf('a1') });
    bench.registerAgent('a1', { session: 's2', node: 'n2' });
    expect(agentOf(bench)).toMatchObject({ node: 'n2', state: 'active' });
  });

  test('that was refused does not keep the first from coming back', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.silence('agent:a1');
    bench.registerAgent('a1', { session: numberedSession(9), node: 'n2' });
    bench.registerAgent('a1', { session: newer, node: 'n1', tasks: [agentTask('f1', 't1')] });
    expect(agentOf(bench)).toMatchObject({ node: 'n1', session: newer });
  });

  test('that was refused has no say', () => {
    const bench = benchWithRunning(taskInfo('t1'));
    bench.registerAgent('a1', { session: 's2', node: 'n2' });
    const message = {
      type: 'StatusUpdate' as const,
      status: taskStatus('f1', 't1', 'TASK_FAILED'),
    };
    expect(ignored(bench.say('agent:a1', message, 's2'))).toEqual([
      'its session is not registered',
    ]);
  });
});

describe('the newest leader that an agent has seen', () => {
  const epochAfter = (leaderSeen: { masterId: string; epoch: number }): number => {
    const bench = createMasterBench({}, 5);
    bench.registerAgent('a1', { leaderSeen });
    return bench.state.epoch;
  };

  test('with a higher epoch raises the epoch above it', () => {
    expect(epochAfter({ masterId: 'm9', epoch: 12 })).toBe(13);
  });

  test('with the same epoch and another name raises it too: the epoch has been given twice', () => {
    expect(epochAfter({ masterId: 'm9', epoch: 5 })).toBe(6);
  });

  test('that is this one leaves the epoch alone', () => {
    expect(epochAfter({ masterId: 'm1', epoch: 5 })).toBe(5);
  });

  test('with a lower epoch leaves it alone', () => {
    expect(epochAfter({ masterId: 'm9', epoch: 4 })).toBe(5);
  });

  test('is outbid in the answer, and in the ids of what follows', () => {
    const bench = createMasterBench({}, 5);
    bench.registerFramework('f1');
    const effects = bench.registerAgent('a1', { leaderSeen: { masterId: 'm9', epoch: 12 } });
    expect(sent(effects, 'agent:a1', 'AgentRegistered')).toMatchObject([
      { master: { masterId: 'm1', epoch: 13 } },
    ]);
    expect(bench.offerOf('f1').offerId).toBe('o13.t.1');
  });

  test('of an agent that is refused says nothing', () => {
    const bench = createMasterBench({}, 5);
    bench.registerAgent('a1', { node: 'n1' });
    const leaderSeen = { masterId: 'm9', epoch: 12 };
    bench.registerAgent('a1', { session: 's2', node: 'n2', leaderSeen });
    expect(bench.state.epoch).toBe(5);
  });
});

describe('an agent that comes back with tasks of which the master does not know', () => {
  const comeBack = (cpus: number): [MasterBench, MasterEffect[]] => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerFramework('f1');
    // Half of the agent is offered, the rest is used.
    bench.launch('f1', bench.offerOf('f1').offerId, [
      taskInfo('t1', { resources: amount(2, 128) }),
    ]);
    const tasks = [
      agentTask('f1', 't1', { resources: amount(2, 128) }),
      agentTask('f1', 't2', { resources: amount(cpus, 128) }),
    ];
    return [bench, bench.registerAgent('a1', { session: 's2', tasks })];
  };

  test('on what is offered has its offers rescinded, and what is left is offered', () => {
    const [bench, effects] = comeBack(1);
    expect(sends(effects)).toEqual([
      'agent:a1 AgentRegistered',
      'framework:f1 RescindResourceOffer',
      'framework:f1 ResourceOffers',
    ]);
    expect(bench.offersOf('f1')).toEqual(['a1 1 7936']);
  });

  test('says why its offers were rescinded', () => {
    const [, effects] = comeBack(2);
    expect(eventsOf(effects).find(({ type }) => type === 'offer.rescinded')?.reason).toBe(
      'the agent has come back with more tasks',
    );
  });
});
