/** `kaon why ID`: what stands between a framework and what it needs, and of a task what is known of it. */
import { explainEnded } from '../../io/ended-words.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { KaonError } from '../../protocol/errors.ts';
import type { Explanation, TaskExplanation } from '../../protocol/explanation.ts';
import type { FrameworkRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import { describeNeed } from '../need-view.ts';
import { askLeader } from '../operator.ts';
import type { ListOptions } from '../options.ts';
import { printJson } from '../print.ts';
import { readCluster, tellUnreadable } from '../registry.ts';
import type { Unreadable } from '../registry.ts';
import { TASK_LABEL } from '../run-label.ts';
import { findTask } from '../task-view.ts';
import type { TaskView } from '../task-view.ts';
import { escapeControls, formatSpan, shortState } from '../words.ts';

/** @returns the exit code */
export async function why(options: ListOptions, asked: string): Promise<number> {
  await withStore(options, { name: 'why' }, async (store) => {
    const { frameworks } = await readCluster(store);
    const framework = pickFramework(asked, frameworks) ?? pickWaitingRun(asked, frameworks);
    if (framework) {
      const explanation = await askWhy(store, framework);
      if (options.json) printJson(explanation);
      else process.stdout.write(describe(explanation, options.wide));
      return;
    }
    const unreadable: Unreadable[] = [];
    const { task, cluster } = await findTask(store, asked, unreadable);
    tellUnreadable(unreadable);
    const known = (await askWhyTask(store, task)) ?? explainEnded(task);
    if (options.json) printJson(known);
    else process.stdout.write(describeTask(known, cluster.nowMs, options.wide));
  });
  return EXIT_OK;
}

/** @returns undefined: it may be a task @throws KaonError `ambiguous` */
function pickFramework(
  asked: string,
  frameworks: readonly FrameworkRecord[],
): FrameworkRecord | undefined {
  const matches: ((one: FrameworkRecord) => boolean)[] = [
    ({ info }) => info.frameworkId === asked,
    ({ info }) => info.name === asked,
    ({ info }) => info.frameworkId.startsWith(asked),
  ];
  for (const isMatch of asked === '' ? [] : matches) {
    const found = frameworks.filter(isMatch);
    if (found.length > 1) throw ambiguous(asked, found);
    if (found[0]) return found[0];
  }
  return undefined;
}

/** The `kaon run` whose tasks of that name are not placed yet: only it knows of them. */
function pickWaitingRun(
  asked: string,
  frameworks: readonly FrameworkRecord[],
): FrameworkRecord | undefined {
  const found = frameworks.filter(
    ({ info, demand = [] }) => info.labels[TASK_LABEL] === asked && demand.length > 0,
  );
  if (found.length > 1) throw ambiguous(asked, found);
  return found[0];
}

function ambiguous(asked: string, found: readonly FrameworkRecord[]): KaonError {
  const ids = found.map(({ info }) => `  ${info.frameworkId}`).join('\n');
  return new KaonError(
    'ambiguous',
    `${asked} may be any of ${String(found.length)} frameworks:\n${ids}`,
    { hint: 'write more of the id' },
  );
}

async function askWhy(store: RedisStore, { info }: FrameworkRecord): Promise<Explanation> {
  const { frameworkId } = info;
  const message = { type: 'Explain', frameworkId } as const;
  const what = `ask why ${frameworkId} waits`;
  const { explanation } = await askLeader(store, { message, what, answer: 'Explained' });
  if (explanation) return explanation;
  throw new KaonError('not-found', `framework ${frameworkId} has just been removed`);
}

/** @returns undefined for one that has ended: there is nobody to ask */
async function askWhyTask(
  store: RedisStore,
  { frameworkId, taskId, endedAtMs, isUnacknowledged }: TaskView,
): Promise<TaskExplanation | undefined> {
  if (endedAtMs !== undefined && !isUnacknowledged) return undefined;
  const message = { type: 'Explain', frameworkId, taskId } as const;
  const what = `ask about ${taskId}`;
  return (await askLeader(store, { message, what, answer: 'Explained' })).task;
}

function describe(explanation: Explanation, isWide: boolean): string {
  const { frameworkId, name, blocked, needs, moreNeeds } = explanation;
  const title = `framework ${escapeControls(name)} (${frameworkId})`;
  if (blocked.length > 0) return `${title} is offered nothing: ${blocked.join('; ')}\n`;
  if (needs.length === 0) return `${title} has, or is offered, all that it needs\n`;
  const more = moreNeeds === undefined ? '' : `  and for ${String(moreNeeds)} other things\n`;
  return `${title} waits\n${needs.map((need) => describeNeed(need, isWide)).join('')}${more}`;
}

function describeTask(task: TaskExplanation, nowMs: number, isWide: boolean): string {
  const { taskId, agentId, state, sinceMs, words, needs } = task;
  const span = formatSpan(sinceMs, nowMs);
  const when = isTerminal(state) ? `${span} ago` : `for ${span}`;
  const known = words.length === 0 ? '' : `: ${words.join('; ')}`;
  const line = `task ${taskId} is ${shortState(state)} on agent ${agentId}, ${when}${known}`;
  const elsewhere = needs
    .map((need) => `another one of it\n${describeNeed(need, isWide)}`)
    .join('');
  return `${escapeControls(line)}\n${elsewhere}kaon task ${taskId} shows all of it\n`;
}
