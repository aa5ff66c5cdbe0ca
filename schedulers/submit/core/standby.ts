/**
 * One runner that stands by, on another agent than the active one: whether there is one, when the next is asked for, which
 * offer it gets, and which are too many.
 */
import type { Labels } from '../../../protocol/fields.ts';
import type { AgentId, OfferId, TaskId } from '../../../protocol/ids.ts';
import { fits } from '../../../protocol/resources.ts';
import type { Resources } from '../../../protocol/resources.ts';
import { isTerminal } from '../../../protocol/task-state.ts';
import type { TaskReason, TaskState } from '../../../protocol/task-state.ts';
import { delayAfter, failuresAfter } from './backoff.ts';

/** After a registration, so long until what was launched before is known again, milliseconds. */
const SETTLE_MS = 3000;
/** The active runner's own agent is of no use; it is offered again then, milliseconds. */
const REFUSE_OWN_MS = 600_000;
/** An agent that is too small or another one than was asked for; it may change, milliseconds. */
const REFUSE_UNFIT_MS = 5000;
/** An agent on which a standby has just failed; so long others are preferred, milliseconds. */
const REFUSE_FAILED_MS = 120_000;

/** What is said of a task of the hosting framework. */
export interface TaskNews {
  readonly taskId: TaskId;
  readonly state: TaskState;
  readonly agentId: AgentId | undefined;
  readonly reason: TaskReason | undefined;
}

/** As much of an offer as counts here. */
export interface StandbyOffer {
  readonly offerId: OfferId;
  readonly agentId: AgentId;
  readonly hostname: string;
  readonly resources: Resources;
  readonly attributes: Labels;
}

/** A runner that does not host: it stands by, or did. */
interface OtherRunner {
  state: TaskState;
  agentId: AgentId | undefined;
  readonly sinceMs: number;
}

/** What the active runner knows of the others. Times are of one clock, milliseconds. */
export interface StandbyState {
  readonly isWanted: boolean;
  readonly resources: Resources;
  /** Only agents that have all of these. */
  readonly attributes: Labels;
  /** Where the active runner is. */
  readonly agentId: AgentId;
  readonly others: Map<TaskId, OtherRunner>;
  /** Agents that are declined until then. */
  readonly failedOn: Map<AgentId, number>;
  /** In a row. */
  failures: number;
  /** No standby is asked for before. */
  notBeforeMs: number;
  /** What the master was told last; undefined: nothing yet in this registration. */
  isAsking: boolean | undefined;
}

/** What the standby needs done. */
export type StandbyEffect =
  | { readonly type: 'standby.ask'; readonly isWanted: boolean }
  | { readonly type: 'standby.launch'; readonly taskId: TaskId; readonly offer: StandbyOffer }
  | { readonly type: 'offer.decline'; readonly offerId: OfferId; readonly refuseMs: number }
  | { readonly type: 'runner.kill'; readonly taskId: TaskId };

/** @param options.isWanted false: there is never one */
export function createStandbyState(
  options: Pick<StandbyState, 'isWanted' | 'resources' | 'attributes' | 'agentId'>,
): StandbyState {
  return {
    ...options,
    others: new Map(),
    failedOn: new Map(),
    failures: 0,
    notBeforeMs: Infinity,
    isAsking: undefined,
  };
}

/** The master knows the framework (again): what runs of it is told soon, and it has forgotten what was asked for. */
export function standbyRegistered(state: StandbyState, nowMs: number): void {
  state.isAsking = undefined;
  const settledMs = nowMs + SETTLE_MS;
  state.notBeforeMs =
    state.notBeforeMs === Infinity ? settledMs : Math.max(state.notBeforeMs, settledMs);
}

/** Takes news of another runner. @returns kills of those that are of no use */
export function standbyNews(state: StandbyState, news: TaskNews, nowMs: number): StandbyEffect[] {
  const { taskId, agentId, reason } = news;
  const known = state.others.get(taskId);
  if (isTerminal(news.state) || news.state === 'TASK_UNKNOWN') {
    if (known) endOther(state, { taskId, known, reason }, nowMs);
    return [];
  }
  if (known) {
    known.state = news.state;
    known.agentId = agentId ?? known.agentId;
  } else state.others.set(taskId, { state: news.state, agentId, sinceMs: nowMs });
  return uselessOnes(state);
}

function endOther(
  state: StandbyState,
  ended: { taskId: TaskId; known: OtherRunner; reason: TaskReason | undefined },
  nowMs: number,
): void {
  const { taskId, known, reason } = ended;
  state.others.delete(taskId);
  // The offer had gone before the launch arrived: nothing has run, and nobody is to blame.
  if (reason === 'REASON_INVALID_OFFERS') return;
  state.failures = failuresAfter(state.failures, nowMs - known.sinceMs);
  state.notBeforeMs = Math.max(state.notBeforeMs, nowMs + delayAfter(state.failures));
  if (known.agentId !== undefined) state.failedOn.set(known.agentId, nowMs + REFUSE_FAILED_MS);
}

/** All but the first that is of use; one on a node that cannot be reached may come back, and is looked at then. */
function uselessOnes(state: StandbyState): StandbyEffect[] {
  const [kept] = usefulOnes(state);
  return [...state.others]
    .filter(([taskId, { state: is }]) => taskId !== kept && LIVE.has(is))
    .map(([taskId]) => ({ type: 'runner.kill', taskId }));
}

const LIVE: ReadonlySet<TaskState> = new Set(['TASK_STAGING', 'TASK_STARTING', 'TASK_RUNNING']);

function usefulOnes({ isWanted, others, agentId }: StandbyState): TaskId[] {
  if (!isWanted) return [];
  return [...others]
    .filter(([, other]) => LIVE.has(other.state) && other.agentId !== agentId)
    .map(([taskId]) => taskId);
}

/** Says what is needed, if that has changed. */
export function standbyTick(state: StandbyState, nowMs: number): StandbyEffect[] {
  const isNeeded = needsOne(state, nowMs);
  if (state.isAsking === isNeeded || state.notBeforeMs === Infinity) return [];
  state.isAsking = isNeeded;
  return [{ type: 'standby.ask', isWanted: isNeeded }];
}

function needsOne(state: StandbyState, nowMs: number): boolean {
  return state.isWanted && nowMs >= state.notBeforeMs && usefulOnes(state).length === 0;
}

/**
 * Answers every offer: the first that will do gets the standby.
 *
 * @param freshId id for the task, if one is launched
 */
export function standbyOffers(
  state: StandbyState,
  offers: readonly StandbyOffer[],
  freshId: TaskId,
  nowMs: number,
): StandbyEffect[] {
  const effects: StandbyEffect[] = [];
  for (const offer of offers) {
    const refuseMs = refusalOf(state, offer, nowMs);
    if (refuseMs !== undefined || !needsOne(state, nowMs)) {
      effects.push({ type: 'offer.decline', offerId: offer.offerId, refuseMs: refuseMs ?? 0 });
      continue;
    }
    const { agentId } = offer;
    state.others.set(freshId, { state: 'TASK_STAGING', agentId, sinceMs: nowMs });
    effects.push({ type: 'standby.launch', taskId: freshId, offer });
  }
  return [...effects, ...standbyTick(state, nowMs)];
}

/** @returns for how long the agent is not wanted; undefined if it will do */
function refusalOf(state: StandbyState, offer: StandbyOffer, nowMs: number): number | undefined {
  // One node with both would take both with it.
  if (offer.agentId === state.agentId) return REFUSE_OWN_MS;
  const untilMs = state.failedOn.get(offer.agentId) ?? -Infinity;
  if (untilMs > nowMs) return Math.ceil(untilMs - nowMs);
  const isFit = fits(state.resources, offer.resources);
  return isFit && hasAttributes(offer.attributes, state.attributes) ? undefined : REFUSE_UNFIT_MS;
}

/** An offer that was made before the master knew what is wanted may be of any agent. @returns whether it has all of them */
export function hasAttributes(has: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => has[key] === value);
}
