/** An agent's core on the bench: events in, and its effects as lines that read well in an expectation. */
import type { AgentState, AgentTaskEntry } from '../../agent/core/state.ts';
import { createAgentState } from '../../agent/core/state.ts';
import type { AgentEffect, AgentEvent, JournalLine, LaunchRef } from '../../agent/core/events.ts';
import { step } from '../../agent/core/step.ts';
import type { EndedUnit } from '../../agent/core/verdict.ts';
import type { AgentToExecutor } from '../../protocol/executor-messages.ts';
import type { TaskKey } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import { formatResources } from '../../protocol/resources.ts';
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
  kill(taskId: string, gracePeriodMs?: number, by?: MessageOf<'KillTask'>['by']): AgentEffect[];
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

/**
 * `start t1`, `signal t1 15`, `update t1 TASK_RUNNING`, `retire t1`; of executors `limits e1 1.1 cpus, 160M`, `give e1 t1`,
 * `tell e1 KillTask t1`. What goes into journals is left out, see `journaled`.
 */
export function lines(effects: readonly AgentEffect[]): string[] {
  return effects.filter(({ type }) => type !== 'journal.append').map(lineOf);
}

/** What is written into journals, in that order. */
export function journaled(effects: readonly AgentEffect[]): JournalLine[] {
  return effects.flatMap((effect) => (effect.type === 'journal.append' ? [effect.line] : []));
}

function lineOf(effect: AgentEffect): string {
  switch (effect.type) {
    case 'task.start':
      return `start ${effect.entry.task.taskId}`;
    case 'unit.signal':
      return `signal ${effect.entry.task.taskId} ${String(effect.signal)}`;
    case 'unit.resize':
      return `resize ${effect.entry.task.taskId} ${formatResources(effect.limits)}`;
    case 'checkpoint.update':
      return `rewrite ${effect.entry.task.taskId}`;
    case 'checkpoint.retire':
      return `retire ${effect.entry.task.taskId}`;
    case 'ended.forget':
      return `forget ${effect.launchId}`;
    case 'leader.remember':
      return `leader ${effect.leader.masterId} ${String(effect.leader.epoch)}`;
    case 'directory.note':
      return `directory ${effect.reservation.reservationId}`;
    case 'directory.remove':
      return `remove directory ${effect.reservationId}`;
    case 'agent.stop':
      return `stop ${effect.code}`;
    case 'message.send':
      return messageLine(effect.message);
    default:
      return executorLine(effect);
  }
}

function messageLine(message: Message): string {
  if (message.type !== 'StatusUpdate') return message.type;
  return `update ${message.status.taskId} ${message.status.state}`;
}

function executorLine(
  effect: Extract<
    AgentEffect,
    { type: `${'journal' | 'executor' | 'hosted' | 'container'}.${string}` }
  >,
): string {
  switch (effect.type) {
    case 'journal.append':
      return `write ${effect.line.type}`;
    case 'journal.remove':
      return `remove journal of ${effect.executor.info.executorId}`;
    case 'executor.send':
      return `tell ${effect.executor.info.executorId} ${wordsOf(effect.message)}`;
    case 'hosted.give': {
      const ids = effect.entries.map(({ task }) => task.taskId);
      return ['give', effect.executor.info.executorId, ...ids].join(' ');
    }
    case 'hosted.prepare':
      return `prepare ${effect.entry.task.taskId}`;
    case 'hosted.close':
      return `close ${effect.entry.task.taskId}`;
    case 'hosted.kill':
      return `force ${effect.entry.task.taskId}`;
    case 'container.resize':
      return `limits ${effect.executor.info.executorId} ${formatResources(effect.limits)}`;
  }
}

function wordsOf(message: AgentToExecutor): string {
  switch (message.type) {
    case 'KillTask':
      return `KillTask ${message.taskId} ${String(message.gracePeriodMs)}`;
    case 'ShutdownExecutor':
      return `ShutdownExecutor ${String(message.gracePeriodMs)}`;
    case 'StatusUpdateAcknowledgement':
      return `ack ${message.updateId}`;
    default:
      return message.type;
  }
}

/** The messages of that type that leave the agent. */
export function messages<T extends Message['type']>(
  effects: readonly AgentEffect[],
  type: T,
): MessageOf<T>[] {
  return effects.flatMap((effect) =>
    effect.type === 'message.send' && effect.message.type === type
      ? [effect.message as MessageOf<T>]
      : [],
  );
}

export function statuses(effects: readonly AgentEffect[]): TaskStatus[] {
  return effects.flatMap((effect) =>
    effect.type === 'message.send' && effect.message.type === 'StatusUpdate'
      ? [effect.message.status]
      : [],
  );
}
