/**
 * What is known of a task: where it is, what it waits for, and of one that does not run (yet, or for all that is known) where
 * another of its size would find room. Reads the state, and changes nothing.
 */
import type { TaskExplanation } from '../../protocol/explanation.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { formatResources } from '../../protocol/resources.ts';
import { ROLE_DEFAULT } from '../../protocol/roles.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { wordsOfStatus } from '../../protocol/task-words.ts';
import type { StepContext } from './effects.ts';
import type { Agent, Framework } from './state.ts';
import { explainPossible } from './why.ts';
import { WITHHELD_WORDS, withheldBy } from './withheld.ts';

/** @returns what is known of it */
export function explainTask(cx: StepContext, task: TaskRecord): TaskExplanation {
  const { frameworkId, taskId, name, agentId, state, updatedAtMs } = task;
  const agent = cx.state.agents.get(agentId);
  const framework = cx.state.frameworks.get(frameworkId);
  const words = [
    ...wordsOfPlace(cx, task, agent),
    ...wordsOfStatus(task.status),
    ...wordsOfWishes(task),
    ...wordsOfFramework(cx, task, framework),
  ];
  const { role = ROLE_DEFAULT, resources } = task;
  const isWaiting = !isTerminal(state) && (task.unheard || state === 'TASK_UNREACHABLE');
  const elsewhere = { role, resources, count: 1, attributes: {} };
  return {
    ...{ frameworkId, taskId, name, agentId, state, sinceMs: updatedAtMs, words },
    needs: isWaiting ? [explainPossible(cx, elsewhere)] : [],
  };
}

/** Of its agent, what matters to it. */
function wordsOfPlace(cx: StepContext, task: TaskRecord, agent: Agent | undefined): string[] {
  if (isTerminal(task.state)) return [];
  const words: string[] = [];
  if (task.unheard) words.push('its launch is on its way: its agent has not said anything of it');
  const withheld = agent && withheldBy(cx.state, agent, cx.nowMs);
  if (!agent) words.push('its agent is not registered');
  else if (withheld !== undefined)
    words.push(`of its agent nothing is offered: ${WITHHELD_WORDS[withheld]}`);
  const { deadlineMs } = agent?.record.drain ?? {};
  if (deadlineMs !== undefined) {
    words.push(
      `its agent is to be empty ${timeUntil(cx, deadlineMs)}: what is left then is killed`,
    );
  }
  if (task.stoppedByMs !== undefined) {
    words.push(`its node stops it ${timeUntil(cx, task.stoppedByMs)} if nothing is heard of it`);
  }
  return words;
}

function timeUntil({ nowMs }: StepContext, atMs: number): string {
  return atMs > nowMs
    ? `in ${formatDuration(atMs - nowMs)}`
    : `since ${formatDuration(nowMs - atMs)}`;
}

function wordsOfWishes({ killRequested, resize, state }: TaskRecord): string[] {
  if (isTerminal(state)) return [];
  return [
    ...(killRequested ? [`kill requested by the ${killRequested}`] : []),
    ...(resize
      ? [
          `the ${resize.by} wants ${formatResources(resize.resources)} for it; its agent has not answered`,
        ]
      : []),
  ];
}

function wordsOfFramework(
  { nowMs }: StepContext,
  { unacknowledged, state }: TaskRecord,
  framework: Framework | undefined,
): string[] {
  if (!framework) return ['its framework is not known'];
  const { record } = framework;
  const words: string[] = [];
  if (record.state === 'disconnected') {
    const { failoverTimeoutMs } = record.info;
    const endsAtMs = (record.disconnectedAtMs ?? nowMs) + failoverTimeoutMs;
    const left = formatDuration(Math.max(0, endsAtMs - nowMs));
    words.push(
      `its framework is not connected: if it is not back in ${left}, its tasks are killed`,
    );
  }
  if (record.state === 'detached') words.push('its framework has left; it goes on to its own end');
  if (isTerminal(state) && unacknowledged.length > 0) {
    words.push('its framework has not acknowledged the end');
  }
  return words;
}
