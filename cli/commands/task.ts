/** `kaon task ID`: everything that is known of one task, for a person who wants to know why it is as it is. */
import type { RedisStore } from '../../io/redis-store.ts';
import { withStore } from '../connection.ts';
import type { LoggedEvent } from '../event-log.ts';
import { isAbout, readEvents, readEventsBackwards } from '../event-log.ts';
import { comparePositions, parsePosition } from '../../protocol/event-position.ts';
import { EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printJson } from '../print.ts';
import { tellUnreadable } from '../registry.ts';
import type { Unreadable } from '../registry.ts';
import { paintFor } from '../style.ts';
import { describeTask } from '../task-block.ts';
import { findTask, taskJson } from '../task-view.ts';
import type { TaskView } from '../task-view.ts';

/** Events that are looked through for a task's own, from its launch on and from its end back: the log may be long. */
const EVENTS_SEEN_MAX = 20_000;

/** @returns the exit code */
export async function task(options: ListOptions, asked: string): Promise<number> {
  const unreadable: Unreadable[] = [];
  const found = await withStore(options, { name: 'task' }, async (store) => {
    const { task: view, cluster } = await findTask(store, asked, unreadable);
    const agent = cluster.agents.find(({ info }) => info.agentId === view.agentId);
    const executor = cluster.executors.find(
      ({ agentId, frameworkId, info }) =>
        agentId === view.agentId &&
        frameworkId === view.frameworkId &&
        info.executorId === view.executorId,
    );
    const events = await eventsOf(store, view, unreadable);
    return { view, agent, executor, nowMs: cluster.nowMs, events };
  });
  tellUnreadable(unreadable);
  if (options.json) printJson({ ...taskJson(found.view), events: found.events });
  else process.stdout.write(describeTask(found, paintFor(process.stdout)));
  return EXIT_OK;
}

/** The beginning of a task is next to its launch and its end next to now, or to its end: between them may be weeks. */
async function eventsOf(
  store: RedisStore,
  view: TaskView,
  unreadable: Unreadable[],
): Promise<LoggedEvent[]> {
  const { launchedAtMs, endedAtMs } = view;
  const found: LoggedEvent[] = [];
  const first = await collect(
    readEvents(store, { from: String(launchedAtMs) }, unreadable),
    view,
    found,
  );
  if (first.isComplete) return found;
  const later: LoggedEvent[] = [];
  // A second more: the end is noted in the record before the commit that logs it.
  const before = endedAtMs === undefined ? '+' : String(endedAtMs + 1000);
  await collect(readEventsBackwards(store, unreadable, before), view, later);
  const fresh = later.reverse().filter((event) => isAfter(event.id, first.lastId));
  return [...found, ...fresh];
}

/** @returns the last entry that was looked at, and whether there was nothing after it that matters */
async function collect(
  events: AsyncGenerator<LoggedEvent>,
  view: TaskView,
  found: LoggedEvent[],
): Promise<{ isComplete: boolean; lastId: string }> {
  let seen = 0;
  let lastId = '0-0';
  for await (const event of events) {
    if (view.endedAtMs !== undefined && event.atMs > view.endedAtMs + 1000)
      return { isComplete: true, lastId };
    lastId = event.id;
    seen += 1;
    if (isAbout(event, view)) found.push(event);
    if (seen >= EVENTS_SEEN_MAX) return { isComplete: false, lastId };
  }
  return { isComplete: true, lastId };
}

function isAfter(id: string, other: string): boolean {
  const [a, b] = [parsePosition(id), parsePosition(other)];
  return a !== undefined && b !== undefined && comparePositions(a, b) > 0;
}
