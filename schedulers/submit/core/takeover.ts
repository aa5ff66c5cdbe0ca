/**
 * When a standby takes the place of the runner that hosts a framework, from what the leader has written of it. It trusts
 * nothing else: where Redis or the masters are away, nobody knows anything, and so nobody takes over and nothing is stopped.
 */
import type { TaskId } from '../../../protocol/ids.ts';
import { isTerminal } from '../../../protocol/task-state.ts';
import type { TaskReason, TaskState } from '../../../protocol/task-state.ts';
import { failuresAfter, STABLE_MS } from './backoff.ts';
import { isOfFamily } from './family.ts';

/**
 * A hosting framework is disconnected for so long before its runner counts as gone, milliseconds: one that lives has
 * registered again by then, for it sends a heartbeat every 6 s at least and learns by it that it is not known.
 */
export const DISCONNECTED_MS = 10_000;
/**
 * What is added to the time after which a runner that is cut off stops its program, milliseconds: it looks every few seconds,
 * and its clock is not that of Redis.
 */
export const HOLD_MARGIN_MS = 10_000;
/** The hosting framework is not known for so long: it has ended, milliseconds. */
const UNKNOWN_MS = 60_000;
/** So many looks in a row must agree: records are not read at one moment. */
const LOOKS = 2;

/** What the registry holds of a hosting framework, at about one moment. */
export interface HostView {
  /** By the clock of Redis, as all times here. */
  readonly nowMs: number;
  readonly hasLeader: boolean;
  /** Until then what is missing may turn up; 0: nothing was lost. */
  readonly recoveringUntilMs: number;
  /** Undefined if it is not known. */
  readonly host: HostRecord | undefined;
  /** The active runner's task; undefined if it is not known. */
  readonly active:
    { readonly state: TaskState; readonly reason: TaskReason | undefined } | undefined;
}

/** A hosting framework. */
export interface HostRecord {
  readonly state: 'active' | 'disconnected' | 'detached';
  readonly disconnectedAtMs: number | undefined;
  /** Task of the runner that has registered last; undefined if that was the submitter. */
  readonly activeId: TaskId | undefined;
  /** When it did. */
  readonly activeSinceMs: number;
  /** Runners in a row that failed soon after they had begun. */
  readonly failures: number;
}

/** What a standby remembers between two looks. */
export interface TakeoverMemory {
  action: Verdict['action'];
  looks: number;
  /** Since when the hosting framework is not known. */
  unknownSinceMs: number | undefined;
}

/** What a standby does now. */
export type Verdict =
  | { readonly action: 'wait' }
  | { readonly action: 'end'; readonly why: string }
  | {
      readonly action: 'take-over';
      readonly why: string;
      /** Whose place it takes. */
      readonly predecessor: TaskId | undefined;
      /** Of runners in a row, with that of the predecessor. */
      readonly failures: number;
      /** An operator has ended the predecessor: what is taken over is to be ended. */
      readonly isOver: boolean;
    };

const WAIT: Verdict = { action: 'wait' };

/** @returns the memory of a standby that has not looked yet, or could not see anything */
export function newTakeoverMemory(): TakeoverMemory {
  return { action: 'wait', looks: 0, unknownSinceMs: undefined };
}

/** Of the submission that a standby belongs to. */
export interface TakeoverOptions {
  readonly family: TaskId;
  /** A runner that is cut off stops its program after so long; undefined: it does not. */
  readonly stopAfterMs: number | undefined;
}

/** @param memory changed */
export function judge(view: HostView, memory: TakeoverMemory, options: TakeoverOptions): Verdict {
  const verdict = judgeOnce(view, memory, options);
  memory.looks = verdict.action === memory.action ? memory.looks + 1 : 1;
  memory.action = verdict.action;
  return memory.looks >= LOOKS ? verdict : WAIT;
}

function judgeOnce(
  view: HostView,
  memory: TakeoverMemory,
  { family, stopAfterMs }: TakeoverOptions,
): Verdict {
  const { host, hasLeader, nowMs, recoveringUntilMs } = view;
  if (!hasLeader || recoveringUntilMs > nowMs) {
    memory.unknownSinceMs = undefined;
    return WAIT;
  }
  if (!host) {
    memory.unknownSinceMs ??= nowMs;
    const isOver = nowMs - memory.unknownSinceMs >= UNKNOWN_MS;
    return isOver ? { action: 'end', why: 'the framework that it stands by for is gone' } : WAIT;
  }
  memory.unknownSinceMs = undefined;
  if (host.state === 'detached') return { action: 'end', why: 'the program has ended' };
  if (host.activeId !== undefined && !isOfFamily(family, host.activeId)) {
    return { action: 'end', why: `another program was submitted: ${host.activeId}` };
  }
  const why = whyGone(view, host, stopAfterMs);
  if (why === undefined) return WAIT;
  const isOver = view.active?.reason === 'REASON_KILLED_BY_OPERATOR';
  const predecessor = host.activeId;
  return { action: 'take-over', why, predecessor, failures: failuresOf(view, host), isOver };
}

/** @returns why the active runner is gone, undefined if it is not known to be */
function whyGone(
  { nowMs, active }: HostView,
  { state, disconnectedAtMs = nowMs, activeId }: HostRecord,
  stopAfterMs: number | undefined,
): string | undefined {
  const who = activeId ?? 'the submitter';
  if (activeId !== undefined && active && isTerminal(active.state))
    return `${who} is ${active.state}`;
  if (state === 'disconnected') {
    // A runner that asks for it has stopped its program by then, on its node that nobody hears of.
    const heldMs = stopAfterMs === undefined ? 0 : stopAfterMs + HOLD_MARGIN_MS;
    const isLong = nowMs - disconnectedAtMs >= Math.max(DISCONNECTED_MS, heldMs);
    return isLong ? `${who} is not heard of` : undefined;
  }
  if (activeId !== undefined && !active) return `${who} is not known any more`;
  return undefined;
}

/** A runner that has failed by itself (its node is there) may do so on every node: it counts as a failed start does. */
function failuresOf({ nowMs, active }: HostView, host: HostRecord): number {
  const { failures, activeSinceMs } = host;
  const ranMs = nowMs - activeSinceMs;
  if (active?.state === 'TASK_FAILED') return failuresAfter(failures, ranMs);
  return ranMs >= STABLE_MS ? 0 : failures;
}
