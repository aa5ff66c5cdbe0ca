/** `kaon task resize ID`: other limits for a task that runs, and word of what became of them. */
import { randomName, systemClock } from '../../io/clock.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { KaonError } from '../../protocol/errors.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import { areEqual, formatResources } from '../../protocol/resources.ts';
import type { Resources } from '../../protocol/resources.ts';
import { withStore } from '../connection.ts';
import type { LoggedEvent } from '../event-log.ts';
import { newestEntry, readEvents } from '../event-log.ts';
import { EXIT_OK } from '../failure.ts';
import { tellMaster } from '../operator.ts';
import type { ResizeOptions } from '../options.ts';
import { tellUnreadable } from '../registry.ts';
import type { Unreadable } from '../registry.ts';
import { findTask } from '../task-view.ts';
import type { TaskView } from '../task-view.ts';
import { formatSpan, shortState } from '../words.ts';

/** For a master, and for an agent that has to make the memory free first. */
const PATIENCE_MS = 30_000;
const LOOK_MS = 100;

/** What became of a wish: the event that says so, or how far it has come. */
type Outcome =
  | { readonly event: LoggedEvent }
  /** A master has granted it, and the agent has not answered. */
  | { readonly isGranted: boolean };

/** @returns the exit code */
export async function resize(options: ResizeOptions, asked: string): Promise<number> {
  const said = await withStore(options, { name: 'resize' }, (store) =>
    resizeTask(store, options, asked),
  );
  process.stdout.write(`${said}\n`);
  return EXIT_OK;
}

/**
 * Asks for other limits, and waits for what becomes of it.
 *
 * @returns what the task has now
 * @throws KaonError in the words of the master or the agent; `resize-timeout`, `task-ended`, and those of `findTask`
 */
export async function resizeTask(
  store: RedisStore,
  { framework, resources }: Pick<ResizeOptions, 'framework' | 'resources'>,
  asked: string,
): Promise<string> {
  const unreadable: Unreadable[] = [];
  const named = framework === undefined ? asked : `${framework}/${asked}`;
  const { task, cluster } = await findTask(store, named, unreadable);
  tellUnreadable(unreadable);
  if (task.endedAtMs !== undefined) throw hasEnded(task, task.endedAtMs, cluster.nowMs);
  const wished: Resources = { ...task.resources, ...resources };
  if (areEqual(wished, task.resources)) {
    return `task ${task.taskId} has ${formatResources(wished)} already`;
  }
  const now = formatResources(await ask(store, task, wished));
  return `task ${task.taskId} now has ${now} (had ${formatResources(task.resources)})`;
}

function hasEnded({ taskId, state }: TaskView, endedAtMs: number, nowMs: number): KaonError {
  const ago = formatSpan(endedAtMs, nowMs);
  return new KaonError(
    'task-ended',
    `task ${taskId} has ended, ${ago} ago: ${shortState(state)}; only a task that runs can be given other resources`,
  );
}

/** @returns what is in force @throws KaonError in the words of the master or the agent */
async function ask(store: RedisStore, task: TaskView, wished: Resources): Promise<Resources> {
  const { frameworkId, taskId, agentId } = task;
  const resizeId = `resize-${randomName(12)}` as SessionId;
  const after = await newestEntry(store);
  const message: Message = { type: 'ResizeTask', resizeId, frameworkId, taskId, resources: wished };
  await tellMaster(store, message, `ask for other resources of ${taskId}`);
  if (!(await store.leader())) {
    process.stderr.write('kaon: no master leads: the request waits until one does\n');
  }
  const outcome = await waitForOutcome(store, resizeId, after);
  if ('event' in outcome) {
    const { event } = outcome;
    if (event.type === 'task.resized') return event.resources ?? wished;
    throw notResized(task, event);
  }
  const waited = formatDuration(PATIENCE_MS);
  throw new KaonError(
    'resize-timeout',
    outcome.isGranted
      ? `task ${taskId} may have ${formatResources(wished)}, but agent ${agentId} has not answered for ${waited}`
      : `task ${taskId} has not been resized ${waited} after the request: no master has taken it`,
    { hint: `the request stays in force; kaon events --task ${taskId} says what became of it` },
  );
}

/** A master refuses before anything is changed; what an agent could not do it may have done in part. */
function notResized({ taskId, resources }: TaskView, event: LoggedEvent): KaonError {
  const words = event.message ?? 'no reason is given';
  if (event.type === 'task.resize-refused') return new KaonError('resize-refused', words);
  const has = formatResources(event.resources ?? resources);
  return new KaonError('resize-failed', `task ${taskId} has ${has}: ${words}`);
}

/** @param after the newest entry of the event log before the wish */
async function waitForOutcome(
  store: RedisStore,
  resizeId: SessionId,
  after: string,
): Promise<Outcome> {
  const deadlineMs = performance.now() + PATIENCE_MS;
  let isGranted = false;
  let last = after;
  for (;;) {
    // Entries are read once: what was looked at is not looked at again.
    const to = await newestEntry(store);
    for await (const event of readEvents(store, { from: `(${last}`, to }, [])) {
      if (event.reason !== resizeId) continue;
      if (event.type !== 'task.resize-requested') return { event };
      isGranted = true;
    }
    last = to;
    if (performance.now() >= deadlineMs) return { isGranted };
    await systemClock.sleep(LOOK_MS);
  }
}
