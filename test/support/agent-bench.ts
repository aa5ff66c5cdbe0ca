/** An agent's core on the bench: events in, and its effects as lines that read well in an expectation. */
import type { AgentState, AgentTaskEntry } from '../../agent/core/state.ts';
import { createAgentState } from '../../agent/core/state.ts';
import type { AgentEffect, AgentEvent } from '../../agent/core/step.ts';
import { step } from '../../agent/core/step.ts';
import type { EndedUnit } from '../../agent/core/verdict.ts';
import type { TaskKey } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { TaskInfo, TaskStatus } from '../../protocol/task.ts';
import { agentIdOf, frameworkIdOf, taskIdOf, taskInfo, updateIdOf } from './builders.ts';

export interface AgentBench {
  readonly state: AgentState;
  nowMs: number;
  do(event: AgentEvent): AgentEffect[];
  run(taskId: string, more?: Partial<TaskInfo>, frameworkId?: string): AgentEffect[];
  kill(taskId: string, gracePeriodMs?: number, by?: 'framework' | 'operator'): AgentEffect[];
  started(taskId: string): AgentEffect[];
  ended(taskId: string, ended?: Partial<EndedUnit>): AgentEffect[];
  failed(taskId: string, message: string, exitStatus?: number): AgentEffect[];
  acknowledge(taskId: string, updateId: string): AgentEffect[];
  wait(ms: number): AgentEffect[];
  entry(taskId: string): AgentTaskEntry | undefined;
}

export function createAgentBench(): AgentBench {
  const state = createAgentState({
    agentId: agentIdOf('a1'),
    agentTag: 'a1',
    hostname: 'node7',
    launchPrefix: 'k',
  });
  const key = (taskId: string): TaskKey => taskKey(frameworkIdOf('f1'), taskIdOf(taskId));
  const bench: AgentBench = {
    state,
    nowMs: 0,
    do: (event) => step(state, event, bench.nowMs),
    run: (taskId, more = {}, frameworkId = 'f1') =>
      bench.do({
        type: 'message',
        message: {
          type: 'RunTask',
          frameworkId: frameworkIdOf(frameworkId),
          frameworkName: frameworkId,
          task: taskInfo(taskId, more),
        },
      }),
    kill: (taskId, gracePeriodMs, by = 'framework') =>
      bench.do({
        type: 'message',
        message: {
          type: 'KillTask',
          frameworkId: frameworkIdOf('f1'),
          taskId: taskIdOf(taskId),
          by,
          ...(gracePeriodMs !== undefined && { gracePeriodMs }),
        },
      }),
    started: (taskId) => bench.do({ type: 'unit.started', key: key(taskId) }),
    ended: (taskId, ended = {}) =>
      bench.do({
        type: 'unit.ended',
        key: key(taskId),
        ended: { result: 'success', certificate: { exitCode: 0 }, ...ended },
      }),
    failed: (taskId, message, exitStatus) =>
      bench.do({ type: 'unit.failed', key: key(taskId), message, exitStatus }),
    acknowledge: (taskId, updateId) =>
      bench.do({
        type: 'message',
        message: {
          type: 'StatusUpdateAcknowledgement',
          frameworkId: frameworkIdOf('f1'),
          taskId: taskIdOf(taskId),
          updateId: updateIdOf(updateId),
        },
      }),
    wait: (ms) => {
      bench.nowMs += ms;
      return bench.do({ type: 'tick' });
    },
    entry: (taskId) => state.tasks.get(key(taskId)),
  };
  return bench;
}

/** A bench whose task `t1` runs; its grace period is 5 s. */
export function agentWithRunning(more: Partial<TaskInfo> = {}): AgentBench {
  const bench = createAgentBench();
  bench.run('t1', more);
  bench.started('t1');
  return bench;
}

/** `start t1`, `signal t1 15`, `update t1 TASK_RUNNING`, `forget t1`. */
export function lines(effects: readonly AgentEffect[]): string[] {
  return effects.map((effect) => {
    switch (effect.type) {
      case 'task.start':
        return `start ${effect.entry.task.taskId}`;
      case 'unit.signal':
        return `signal ${effect.entry.task.taskId} ${String(effect.signal)}`;
      case 'checkpoint.remove':
        return `forget ${effect.entry.task.taskId}`;
      case 'message.send': {
        const { message } = effect;
        if (message.type !== 'StatusUpdate') return message.type;
        return `update ${message.status.taskId} ${message.status.state}`;
      }
    }
  });
}

export function statuses(effects: readonly AgentEffect[]): TaskStatus[] {
  return effects.flatMap((effect) =>
    effect.type === 'message.send' && effect.message.type === 'StatusUpdate'
      ? [effect.message.status]
      : [],
  );
}
