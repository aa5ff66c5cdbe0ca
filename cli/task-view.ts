/** One task as commands show it, whether it lives (registry) or has ended (history); and how it is found by what a person types. */
import { KaonError } from '../protocol/errors.ts';
import { taskKey } from '../protocol/ids.ts';
import type { AgentId, ExecutorId, FrameworkId, TaskId } from '../protocol/ids.ts';
import type { EndedTask, FrameworkRecord, TaskRecord } from '../protocol/records.ts';
import type { Resources } from '../protocol/resources.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { TaskState } from '../protocol/task-state.ts';
import type { TaskInfo, TaskStatus } from '../protocol/task.ts';
import { readCluster, readHistory } from './registry.ts';
import type { Cluster, RegistrySource, Unreadable } from './registry.ts';
import { escapeControls, shortState } from './words.ts';

/** What is common to a live and an ended task, and what only one of them has. */
export interface TaskView {
  readonly frameworkId: FrameworkId;
  /** '' if nobody knows it any more. */
  readonly frameworkName: string;
  readonly taskId: TaskId;
  readonly agentId: AgentId;
  readonly name: string;
  readonly resources: Resources;
  /** Of a task of an executor. */
  readonly executorId?: ExecutorId;
  /** Other resources that its agent has yet to give it. */
  readonly resize?: TaskRecord['resize'];
  readonly state: TaskState;
  readonly launchedAtMs: number;
  /** Absent while it has not ended. */
  readonly endedAtMs?: number;
  readonly status?: TaskStatus;
  readonly argv?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Only of tasks in the registry, and not of those that their agent brought back. */
  readonly info?: TaskInfo;
  /** What was promised of its end, of a task that its agent brought back too. */
  readonly rules?: Pick<TaskInfo, 'whenUnreachable' | 'exclusive'>;
  readonly killRequested?: 'framework' | 'operator';
  /** Its agent is not heard of. */
  readonly unreachable?: {
    readonly sinceMs: number;
    /** When its node has stopped it at the latest; absent: it goes on if its node lives. */
    readonly stoppedByMs?: number;
  };
  /** Its agent has not said anything of it yet. */
  readonly isUnheard: boolean;
  /** It has ended, but its framework has not acknowledged that. */
  readonly isUnacknowledged: boolean;
  /** As Redis holds it: what `--json` prints. */
  readonly record: TaskRecord | EndedTask;
}

/** @param frameworks for the name of the task's framework */
export function viewOfLive(record: TaskRecord, frameworks: readonly FrameworkRecord[]): TaskView {
  const { frameworkId, taskId, agentId, name, resources, state, launchedAtMs, info } = record;
  const framework = frameworks.find((one) => one.info.frameworkId === frameworkId);
  const hasEnded = isTerminal(state);
  return {
    ...{ frameworkId, taskId, agentId, name, resources, state, launchedAtMs },
    frameworkName: framework?.info.name ?? '',
    isUnheard: record.unheard,
    isUnacknowledged: hasEnded,
    record,
    ...(hasEnded && { endedAtMs: record.updatedAtMs }),
    ...(info && { info, labels: info.labels }),
    ...(info?.command && { argv: info.command.argv }),
    ...wordsOn(record),
  };
}

/** What only some live tasks have. */
function wordsOn(
  record: TaskRecord,
): Pick<TaskView, 'executorId' | 'resize' | 'status' | 'rules' | 'killRequested' | 'unreachable'> {
  const { executorId, resize, status, killRequested, state } = record;
  const rules = record.info ?? record.rules;
  return {
    ...(executorId !== undefined && { executorId }),
    ...(resize && { resize }),
    ...(status && { status }),
    ...(rules && { rules }),
    ...(killRequested && { killRequested }),
    ...(state === 'TASK_UNREACHABLE' && { unreachable: unreachableOf(record) }),
  };
}

function unreachableOf({
  updatedAtMs: sinceMs,
  stoppedByMs,
}: TaskRecord): NonNullable<TaskView['unreachable']> {
  return stoppedByMs === undefined ? { sinceMs } : { sinceMs, stoppedByMs };
}

/** @returns the view of an entry of the history */
export function viewOfEnded(record: EndedTask): TaskView {
  const { argv, labels, status, executorId, ...rest } = record;
  return {
    ...rest,
    isUnheard: false,
    isUnacknowledged: false,
    record,
    ...(argv && { argv }),
    ...(labels && { labels }),
    ...(status && { status }),
    ...(executorId !== undefined && { executorId }),
  };
}

/** The record as `--json` prints it: its own fields, and the two that tell live from ended and whose it is. */
export function taskJson(view: TaskView): object {
  return { ...view.record, frameworkName: view.frameworkName, ended: view.endedAtMs !== undefined };
}

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
