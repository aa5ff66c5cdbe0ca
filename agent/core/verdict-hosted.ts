/** How a task of an executor ended: by the word of its executor, the kernel's, or with its executor. Pure. */
import type { ExecutorUpdate } from '../../protocol/executor-messages.ts';
import type { DeathCertificate, TaskInfo } from '../../protocol/task.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskReason } from '../../protocol/task-state.ts';
import { limitsOf } from './container.ts';
import type { AgentTaskEntry, ExecutorEntry } from './state.ts';
import { SIGKILL } from './unit-kill.ts';
import type { Outcome } from './updates.ts';
import type { EndedUnit, KilledBy, LaunchFailure, Verdict } from './verdict.ts';
import { howItLeft, judge, judgeLaunch, memoryMessage } from './verdict.ts';

/** What of an executor's update is passed on: the kernel knows better why a process of the task's own cgroup has died. */
export function judgeHosted(
  update: ExecutorUpdate,
  { task, kill }: AgentTaskEntry,
  certificate: DeathCertificate | undefined,
): { readonly state: TaskState } & Partial<Outcome> {
  const { state, reason, message } = update;
  const isEnd = isTerminal(state);
  if (isEnd && state !== 'TASK_FINISHED' && (certificate?.oomKills ?? 0) > 0 && certificate) {
    return {
      state: 'TASK_FAILED',
      reason: 'REASON_CONTAINER_LIMITATION_MEMORY',
      message: memoryMessage(task.resources.memMib, certificate),
    };
  }
  const isByOperator = state === 'TASK_KILLED' && kill?.by === 'operator';
  return {
    state,
    ...(reason !== undefined && { reason }),
    ...(isByOperator && { reason: 'REASON_KILLED_BY_OPERATOR' as const }),
    ...(message !== undefined && { message }),
  };
}

/** Of a task that was killed before its executor had got it. */
export function judgeKilledDuringLaunch(by: KilledBy): Verdict {
  return {
    state: 'TASK_KILLED',
    reason: by === 'master' ? 'REASON_TASK_SUPERSEDED' : 'REASON_KILLED_DURING_LAUNCH',
    message: `killed on request of the ${by} before its executor had got it`,
  };
}

/** Of a task that its executor has had, and knows nothing of now: its process is another one, or has lost its memory. */
export function judgeForgotten({ kill, hosted }: AgentTaskEntry): Verdict {
  const message = `executor ${hosted?.executor.info.executorId ?? ''} does not know it any more`;
  if (!kill) return { state: 'TASK_LOST', reason: 'REASON_EXECUTOR_TERMINATED', message };
  return { state: 'TASK_KILLED', reason: KILL_REASONS[kill.by], message };
}

const KILL_REASONS = {
  framework: 'REASON_KILLED_BY_FRAMEWORK',
  operator: 'REASON_KILLED_BY_OPERATOR',
  preemption: 'REASON_PREEMPTED',
  master: 'REASON_TASK_SUPERSEDED',
  agent: 'REASON_EXECUTOR_TERMINATED',
} as const satisfies Record<KilledBy, TaskReason>;

/** The end of an executor: words for itself, and what becomes of each task that it still had. */
export interface ExecutorEnd {
  readonly message: string;
  readonly tasks: (task: AgentTaskEntry) => Outcome;
}

/** It was never started. */
export function judgeExecutorLaunch(
  { task, info }: ExecutorEntry,
  hostname: string,
  failure: LaunchFailure,
): ExecutorEnd {
  const verdict = judgeLaunch(task, hostname, failure);
  const message = `executor ${info.executorId} was ${verdict.message}`;
  return { message, tasks: () => ({ ...verdict, message }) };
}

/** Nobody knows how it ended. */
export function judgeExecutorLost({ info }: ExecutorEntry, why: string): ExecutorEnd {
  const message = `Lost executor ${info.executorId}: ${why}`;
  return {
    message,
    tasks: () => ({ state: 'TASK_LOST', reason: 'REASON_EXECUTOR_TERMINATED', message }),
  };
}

/** Rule L7, and what the kernel and systemd say of it. */
export function judgeExecutorEnd(executor: ExecutorEntry, ended: EndedUnit): ExecutorEnd {
  const { info, failure, kill } = executor;
  const { certificate } = ended;
  const limits: TaskInfo = { ...executor.task, resources: limitsOf(executor) };
  const own = judge(ownEnd(executor, ended), limits, failure ? undefined : kill?.by);
  const name = `executor ${info.executorId}`;
  if (own.reason === 'REASON_CONTAINER_LIMITATION_MEMORY') {
    const message = `the container of ${name} was ${own.message}`;
    return { message, tasks: () => ({ ...own, message, certificate: usedBy(certificate) }) };
  }
  if (failure) {
    const { message } = failure;
    return { message, tasks: () => ({ state: 'TASK_FAILED', ...failure }) };
  }
  if (own.state === 'TASK_KILLED') {
    return {
      message: `${name} was shut down: ${own.message}`,
      tasks: () => ({
        ...own,
        message: `ended with its executor ${info.executorId}: ${own.message}`,
      }),
    };
  }
  const message = `Lost executor ${info.executorId}: ${howItLeft(certificate)}`;
  return {
    message,
    tasks: () => ({ state: 'TASK_LOST', reason: 'REASON_EXECUTOR_TERMINATED', message }),
  };
}

/**
 * Where each task has a cgroup of its own, a count of processes ended for memory may be of those; an executor that left by
 * itself was not ended for memory.
 */
function ownEnd({ info }: ExecutorEntry, ended: EndedUnit): EndedUnit {
  const { oomKills: _oomKills, ...certificate } = ended.certificate;
  const isOther = info.isolation === 'task' && certificate.signal !== SIGKILL;
  return isOther ? { ...ended, certificate } : ended;
}

/** The numbers of the container are not the task's own: of those only what tells why it ended. */
function usedBy({
  memoryPeakBytes,
  memoryLimitBytes,
  oomKills,
}: DeathCertificate): DeathCertificate {
  return { memoryPeakBytes, memoryLimitBytes, oomKills };
}
