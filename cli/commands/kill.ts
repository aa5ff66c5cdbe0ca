/** `kaon kill ID`: asks the master to end a task, and waits to see how it ends. */
import { systemClock } from '../../io/clock.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { KaonError } from '../../protocol/errors.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { KILL_GRACE_DEFAULT_MS } from '../../protocol/command.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import { tellMaster } from '../operator.ts';
import type { KillOptions } from '../options.ts';
import { readHistory, readTask, tellUnreadable } from '../registry.ts';
import type { Unreadable } from '../registry.ts';
import { paintFor, paintState } from '../style.ts';
import { findTask, viewOfEnded, viewOfLive } from '../task-view.ts';
import type { TaskView } from '../task-view.ts';
import { escapeControls, formatSpan, shortState } from '../words.ts';
import { ranFor } from './tasks.ts';

/** After the grace period: for the messages, the unit's end, and a framework that is slow to acknowledge. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 100;

/** @returns the exit code */
export async function kill(options: KillOptions, asked: string): Promise<number> {
  return withStore(options, { name: 'kill' }, async (store) => {
    const unreadable: Unreadable[] = [];
    const { task, cluster } = await findTask(store, asked, unreadable);
    tellUnreadable(unreadable);
    if (task.endedAtMs !== undefined) {
      const ago = formatSpan(task.endedAtMs, cluster.nowMs);
      process.stdout.write(
        `${titleOf(task)} had ended already, ${ago} ago: ${describeEnd(task)}\n`,
      );
      return EXIT_OK;
    }
    await tellMaster(store, messageOf(task, options), `ask for the kill of ${task.taskId}`);
    const agent = cluster.agents.find(({ info }) => info.agentId === task.agentId);
    await tellObstacle(store, task, agent?.state);
    const graceMs = options.graceMs ?? task.info?.killGracePeriodMs ?? KILL_GRACE_DEFAULT_MS;
    const ended = await waitForEnd(store, task, graceMs + PATIENCE_MS);
    process.stdout.write(`${titleOf(ended)} ${describeEnd(ended)}\n`);
    return EXIT_OK;
  });
}

function messageOf({ frameworkId, taskId }: TaskView, { graceMs }: KillOptions): Message {
  const grace = graceMs === undefined ? {} : { gracePeriodMs: graceMs };
  return { type: 'KillTask', frameworkId, taskId, by: 'operator', ...grace };
}

/** What will make it take longer, at once and not after the wait. */
async function tellObstacle(
  store: RedisStore,
  { agentId }: TaskView,
  agentState: AgentRecord['state'] | undefined,
): Promise<void> {
  const say = (text: string): void => void process.stderr.write(`kaon: ${text}\n`);
  if (!(await store.leader())) say('no master leads: the request waits until one does');
  if (agentState === 'unreachable') {
    say(
      `agent ${agentId} is unreachable: the task ends when it is back, or is given up by kaon gone ${agentId}`,
    );
  } else if (agentState === 'gone') {
    say(`agent ${agentId} is gone: what it ran has ended`);
  } else if (agentState === undefined) {
    say(`agent ${agentId} is not registered: the task ends if it comes back`);
  }
}

async function waitForEnd(store: RedisStore, task: TaskView, timeoutMs: number): Promise<TaskView> {
  const key = taskKey(task.frameworkId, task.taskId);
  const deadlineMs = performance.now() + timeoutMs;
  let last = task;
  while (performance.now() < deadlineMs) {
    const record = await readTask(store, key);
    if (!record) return (await readEnded(store, task)) ?? last;
    last = viewOfLive(record, []);
    if (isTerminal(record.state)) return last;
    await systemClock.sleep(LOOK_MS);
  }
  throw new KaonError(
    'kill-timeout',
    `task ${task.taskId} has not ended ${formatDuration(timeoutMs)} after the request: it is ${shortState(last.state)}` +
      ` on agent ${task.agentId}`,
    { hint: 'the request stays in force; kaon status, kaon agents and kaon task say more' },
  );
}

/** The removal from the registry and the entry of the history are one commit: what has gone is there. */
async function readEnded(store: RedisStore, task: TaskView): Promise<TaskView | undefined> {
  for await (const record of readHistory(store, [], task.launchedAtMs)) {
    if (record.taskId === task.taskId && record.frameworkId === task.frameworkId)
      return viewOfEnded(record);
  }
  return undefined;
}

function titleOf({ taskId, name }: TaskView): string {
  const isTold = taskId === name || taskId.startsWith(`${name}.`);
  return isTold ? taskId : `${taskId} (${escapeControls(name)})`;
}

function describeEnd(task: TaskView): string {
  const { endedAtMs, status } = task;
  if (endedAtMs === undefined) return 'is gone: neither the registry nor the history has it';
  const message = status?.message === undefined ? '' : `: ${escapeControls(status.message)}`;
  const state = paintState(paintFor(process.stdout), task.state);
  return `${state} after ${ranFor(task, endedAtMs)}${message}`;
}
