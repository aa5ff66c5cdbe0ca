/** How a task is found by what a person types, whether it lives (registry) or has ended (history). */
import { viewOfEnded, viewOfLive } from '../io/task-view.ts';
import type { TaskView } from '../io/task-view.ts';
import { KaonError } from '../protocol/errors.ts';
import { taskKey } from '../protocol/ids.ts';
import { readCluster, readHistory } from './registry.ts';
import type { Cluster, RegistrySource, Unreadable } from './registry.ts';
import { escapeControls, shortState } from './words.ts';

export { taskJson, viewOfEnded, viewOfLive } from '../io/task-view.ts';
export type { TaskView } from '../io/task-view.ts';

/** Ways in which a person's word can mean a task, the most exact first. */
const MATCHES: readonly ((view: TaskView, word: string) => boolean)[] = [
  (view, word) => view.taskId === word,
  (view, word) => view.name === word,
  (view, word) => view.taskId.startsWith(word),
];

/**
 * Picks the task that is meant: by id, by name, or by the beginning of its id, in this order; a live one before an
 * ended one. `FRAMEWORK/TASK` narrows it to a framework, by the same three ways.
 *
 * @param live tasks of the registry
 * @param ended tasks of the history, newest first; of several runs under one id the newest counts
 * @returns undefined if no task is meant
 * @throws KaonError `ambiguous` with the candidates
 */
export function pickTask(
  asked: string,
  live: readonly TaskView[],
  ended: readonly TaskView[],
): TaskView | undefined {
  const slash = asked.indexOf('/');
  const word = asked.slice(slash + 1);
  const framework = slash < 0 ? undefined : asked.slice(0, slash);
  if (word === '') return undefined;
  const newest = newestOfEachId(ended);
  for (const isMatch of MATCHES) {
    for (const views of [live, newest]) {
      const found = views.filter(
        (view) =>
          isMatch(view, word) && (framework === undefined || isOfFramework(view, framework)),
      );
      if (found.length > 1) throw ambiguous(asked, found);
      if (found[0]) return found[0];
    }
  }
  return undefined;
}

function isOfFramework(view: TaskView, word: string): boolean {
  return view.frameworkId.startsWith(word) || view.frameworkName === word;
}

function newestOfEachId(ended: readonly TaskView[]): TaskView[] {
  const byKey = new Map<string, TaskView>();
  for (const view of ended) {
    const key = taskKey(view.frameworkId, view.taskId);
    if (!byKey.has(key)) byKey.set(key, view);
  }
  return [...byKey.values()];
}

/** Candidates that an error lists at most. */
const CANDIDATES_MAX = 10;

function ambiguous(asked: string, found: readonly TaskView[]): KaonError {
  const lines = found.slice(0, CANDIDATES_MAX).map(({ frameworkId, taskId, name, state }) => {
    return `  ${taskKey(frameworkId, taskId)}  ${escapeControls(name)}, ${shortState(state)}`;
  });
  const more =
    found.length > CANDIDATES_MAX ? [`  and ${String(found.length - CANDIDATES_MAX)} more`] : [];
  return new KaonError(
    'ambiguous',
    [`${asked} may be any of ${String(found.length)} tasks:`, ...lines, ...more].join('\n'),
    { hint: 'write more of the id, or FRAMEWORK/TASK as above' },
  );
}

/** What `findTask` has read anyway, for whoever needs more of it. */
export interface FoundTask {
  readonly task: TaskView;
  readonly cluster: Cluster;
}

/**
 * Finds a task in registry and history.
 *
 * @param unreadable records that could not be read are added here
 * @throws KaonError `not-found`, `ambiguous`
 */
export async function findTask(
  source: RegistrySource,
  asked: string,
  unreadable: Unreadable[],
): Promise<FoundTask> {
  const cluster = await readCluster(source);
  unreadable.push(...cluster.unreadable);
  const live = cluster.tasks.map((record) => viewOfLive(record, cluster.frameworks));
  const exact = live.find((view) => taskKey(view.frameworkId, view.taskId) === asked);
  if (exact) return { task: exact, cluster };
  const ended: TaskView[] = [];
  for await (const record of readHistory(source, unreadable)) ended.push(viewOfEnded(record));
  const task = pickTask(asked, live, ended);
  if (task) return { task, cluster };
  throw new KaonError(
    'not-found',
    `no task ${asked}: not among ${String(live.length)} in the registry and ${String(ended.length)} that have ended`,
    { hint: 'kaon tasks --all lists them; is it another --cluster?' },
  );
}
