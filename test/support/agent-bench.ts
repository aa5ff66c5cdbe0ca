/** An agent's core on the bench: events in, and its effects as lines that read well in an expectation. */
import type { AgentState, AgentTaskEntry } from '../../agent/core/state.ts';
import { createAgentState } from '../../agent/core/state.ts';
import type { AgentEffect, AgentEvent, LaunchRef } from '../../agent/core/step.ts';
import { step } from '../../agent/core/step.ts';
import type { EndedUnit, KilledBy } from '../../agent/core/verdict.ts';
import type { TaskKey } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { TaskInfo, TaskStatus } from '../../protocol/task.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import {
  agentIdOf,
  frameworkIdOf,
  frameworkInfo,
  taskIdOf,
  taskInfo,
  updateIdOf,
} from './builders.ts';

export interface AgentBench {
  readonly state: AgentState;
  nowMs: number;
  do(event: AgentEvent): AgentEffect[];
  /** Launches are numbered, `k1`, `k2`, ..., in the order of these calls. */
  run(taskId: string, more?: Partial<TaskInfo>, frameworkId?: string): AgentEffect[];
  /** The launch of that id. */
  launch(launchId: string, taskId: string): AgentEffect[];
  kill(taskId: string, gracePeriodMs?: number, by?: KilledBy): AgentEffect[];
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
  });
  let launches = 0;
  const key = (taskId: string): TaskKey => taskKey(frameworkIdOf('f1'), taskIdOf(taskId));
  const launch = (taskId: string): LaunchRef => ({
    key: key(taskId),
    launchId: state.tasks.get(key(taskId))?.launchId ?? ('none' as LaunchId),
  });
  const bench: AgentBench = {
    state,
    nowMs: 0,
    do: (event) => step(state, event, bench.nowMs),
    run: (taskId, more = {}, frameworkId = 'f1') => {
      launches += 1;
      const launchId = `k${String(launches)}`;
      return bench.do(runTask(frameworkId, launchId, taskInfo(taskId, more)));
    },
    launch: (launchId, taskId) => bench.do(runTask('f1', launchId, taskInfo(taskId))),
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
    started: (taskId) => bench.do({ type: 'unit.started', ...launch(taskId) }),
    ended: (taskId, ended = {}) =>
      bench.do({
        type: 'unit.ended',
        ...launch(taskId),
        ended: { result: 'success', certificate: { exitCode: 0 }, ...ended },
      }),
    failed: (taskId, message, exitStatus) =>
      bench.do({ type: 'unit.failed', ...launch(taskId), message, exitStatus }),
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

/** A launch as the master sends it; the framework's name is its id. */
export function runTask(frameworkId: string, launchId: string, task: TaskInfo): AgentEvent {
  const framework = frameworkInfo(frameworkId);
  const message = { type: 'RunTask' as const, framework, launchId: launchId as LaunchId, task };
  return { type: 'message', message };
}

/** A bench whose task `t1` runs; its grace period is 5 s. */
export function agentWithRunning(more: Partial<TaskInfo> = {}): AgentBench {
  const bench = createAgentBench();
  bench.run('t1', more);
  bench.started('t1');
  return bench;
}

/** `start t1`, `signal t1 15`, `update t1 TASK_RUNNING`, `retire t1`. */
export function lines(effects: readonly AgentEffect[]): string[] {
  return effects.map((effect) => {
    switch (effect.type) {
      case 'task.start':
        return `start ${effect.entry.task.taskId}`;
      case 'unit.signal':
        return `signal ${effect.entry.task.taskId} ${String(effect.signal)}`;
      case 'checkpoint.update':
        return `rewrite ${effect.entry.task.taskId}`;
      case 'checkpoint.retire':
        return `retire ${effect.entry.task.taskId}`;
      case 'ended.forget':
        return `forget ${effect.launchId}`;
      case 'leader.remember':
        return `leader ${effect.leader.masterId} ${String(effect.leader.epoch)}`;
      case 'agent.stop':
        return `stop ${effect.code}`;
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
