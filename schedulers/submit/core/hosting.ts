/**
 * What the active runner decides: when the program is started, held and started again, when hosting is over and how, and
 * with `standby.ts` that another runner stands by. It is the scheduler of the hosting framework; the program is that of its
 * own framework, which is none of its business.
 */
import assert from 'node:assert/strict';
import type { TaskId } from '../../../protocol/ids.ts';
import { isTerminal } from '../../../protocol/task-state.ts';
import { delayAfter, failuresAfter } from './backoff.ts';
import { isOfFamily } from './family.ts';
import type { StandbyEffect, StandbyOffer, StandbyState, TaskNews } from './standby.ts';
import {
  createStandbyState,
  standbyNews,
  standbyOffers,
  standbyRegistered,
  standbyTick,
} from './standby.ts';

/** The program and the messages that end all of it have so much of the grace period left for them, milliseconds. */
const FAREWELL_MS = 1500;

/** How a program has ended. */
export interface ProgramEnd {
  /** What a shell would say: 128 and the signal, 127 if it could not be started. */
  readonly exitCode: number;
  /** For people: `left with 3`, `was ended by SIGSEGV`. */
  readonly words: string;
}

/** What happened. Everything but the news of other runners is of this process. */
export type HostingEvent =
  | { readonly type: 'tick' }
  /** The master knows the hosting framework, now or again. */
  | { readonly type: 'registered' }
  | { readonly type: 'task.news'; readonly news: TaskNews }
  | {
      readonly type: 'offers';
      readonly offers: readonly StandbyOffer[];
      readonly freshId: TaskId;
    }
  | { readonly type: 'program.ended'; readonly end: ProgramEnd }
  /** The registry was asked then, and has answered: the framework is registered, and by this runner. */
  | { readonly type: 'registry.seen'; readonly askedAtMs: number }
  /** Another runner has taken over. */
  | { readonly type: 'moved' }
  /** The driver of the hosting framework cannot go on. */
  | { readonly type: 'failed'; readonly words: string }
  /** Somebody ends this task; who it is, `end.explained` says. */
  | { readonly type: 'end.asked' }
  /** `isWished`: the end of this runner was asked of the cluster, and is no node that shuts down. */
  | { readonly type: 'end.explained'; readonly isWished: boolean };

/** What is to be done. */
export type HostingEffect =
  | StandbyEffect
  | { readonly type: 'program.start' }
  | { readonly type: 'program.kill' }
  | { readonly type: 'say'; readonly words: string }
  /** The newest status of every runner is wanted, of these by name. */
  | { readonly type: 'runners.reconcile'; readonly taskIds: readonly TaskId[] }
  /**
   * This process ends, the last of all effects. `over`: nobody hosts any more; `away`: a standby is to go on; `silent`:
   * the cluster knows already.
   */
  | { readonly type: 'leave'; readonly how: Leaving; readonly exitCode: number };

/** How a runner leaves the cluster. */
export type Leaving = 'over' | 'away' | 'silent';

/** What a runner hosts, and how. */
export interface HostingOptions {
  readonly standby: Pick<StandbyState, 'isWanted' | 'resources' | 'attributes' | 'agentId'>;
  readonly me: TaskId;
  readonly family: TaskId;
  /** Whose place it has taken. */
  readonly predecessor: TaskId | undefined;
  /** Of runners in a row. */
  readonly failures: number;
  /** There is nothing to host any more: what is left of it is ended. */
  readonly isOver: boolean;
  readonly maxRestarts: number;
  readonly killGraceMs: number;
  /** The program is stopped when the cluster has not been seen for so long; undefined: it goes on. */
  readonly stopAfterMs: number | undefined;
}

/** Times are of one clock that only goes forward, milliseconds. */
export interface HostingState {
  readonly options: HostingOptions;
  readonly standby: StandbyState;
  isRegistered: boolean;
  /** `holding`: on its way to `held`, stopped until the cluster is seen again. */
  program: 'waiting' | 'running' | 'holding' | 'held';
  startedAtMs: number;
  startAtMs: number;
  /** In a row. */
  failures: number;
  seenAtMs: number;
  ending: { isWished: boolean | undefined; readonly killAtMs: number } | undefined;
  hasLeft: boolean;
}

/** @returns the state of a runner that is about to register the hosting framework */
export function createHostingState(options: HostingOptions, nowMs: number): HostingState {
  const { failures } = options;
  return {
    options,
    standby: createStandbyState(options.standby),
    isRegistered: false,
    program: 'waiting',
    startedAtMs: nowMs,
    startAtMs: nowMs + delayAfter(failures),
    failures,
    seenAtMs: nowMs,
    ending: undefined,
    hasLeft: false,
  };
}

/** Takes an event. @returns what follows from it, to be done in order */
export function step(state: HostingState, event: HostingEvent, nowMs: number): HostingEffect[] {
  if (state.hasLeft) return [];
  switch (event.type) {
    case 'tick':
      return tick(state, nowMs);
    case 'registered':
      return registered(state, nowMs);
    case 'task.news':
      return taskNews(state, event.news, nowMs);
    case 'offers':
      return offered(state, event, nowMs);
    case 'program.ended':
      return programEnded(state, event.end, nowMs);
    case 'registry.seen':
      return registrySeen(state, event.askedAtMs, nowMs);
    case 'moved':
      return leave(state, 'silent', 0, 'another runner has taken over: the program ends here');
    case 'failed':
      return leave(state, 'silent', 1, event.words);
    case 'end.asked':
      return endAsked(state, nowMs);
    case 'end.explained':
      return endExplained(state, event.isWished);
    default:
      return event satisfies never;
  }
}

function tick(state: HostingState, nowMs: number): HostingEffect[] {
  const { ending, program, isRegistered } = state;
  if (ending) return isAlive(state) && nowMs >= ending.killAtMs ? killProgram() : [];
  const effects: HostingEffect[] = [];
  if (program === 'waiting' && isRegistered && nowMs >= state.startAtMs) {
    effects.push(...startProgram(state, nowMs));
  }
  return [...effects, ...holdIfCutOff(state, nowMs), ...standbyTick(state.standby, nowMs)];
}

function startProgram(state: HostingState, nowMs: number): HostingEffect[] {
  state.program = 'running';
  state.startedAtMs = nowMs;
  return [{ type: 'program.start' }];
}

/** Nobody can tell what the cluster does meanwhile; who asks for it wants the program to stand still then. */
function holdIfCutOff(state: HostingState, nowMs: number): HostingEffect[] {
  const { stopAfterMs } = state.options;
  if (stopAfterMs === undefined || state.program !== 'running') return [];
  if (nowMs - state.seenAtMs < stopAfterMs) return [];
  state.program = 'holding';
  return [...killProgram(), say('the cluster has not answered for too long: the program is held')];
}

/** Whatever is left of the predecessor is of no use; also a node that comes back only much later is told so. */
function registered(state: HostingState, nowMs: number): HostingEffect[] {
  const { predecessor, failures, isOver, maxRestarts } = state.options;
  if (state.ending) return [];
  state.isRegistered = true;
  state.seenAtMs = nowMs;
  standbyRegistered(state.standby, nowMs);
  const taskIds = [...state.standby.others.keys()];
  const effects: HostingEffect[] = [{ type: 'runners.reconcile', taskIds }];
  if (predecessor !== undefined) effects.push({ type: 'runner.kill', taskId: predecessor });
  if (isOver) {
    return [...effects, ...leave(state, 'over', 0, 'an operator has ended the runner before')];
  }
  if (failures > maxRestarts) {
    const words = `${String(failures)} runners in a row have failed; this was the last`;
    return [...effects, ...leave(state, 'over', 1, words)];
  }
  return [...effects, ...tick(state, nowMs)];
}

function taskNews(state: HostingState, news: TaskNews, nowMs: number): HostingEffect[] {
  const { me, family, predecessor } = state.options;
  const { taskId } = news;
  if (taskId === me || taskId === predecessor || state.ending) return [];
  // Of an earlier submission: it would go on with a program that was replaced.
  if (!isOfFamily(family, taskId)) {
    return isTerminal(news.state) ? [] : [{ type: 'runner.kill', taskId }];
  }
  return [...standbyNews(state.standby, news, nowMs), ...standbyTick(state.standby, nowMs)];
}

function offered(
  state: HostingState,
  { offers, freshId }: Extract<HostingEvent, { type: 'offers' }>,
  nowMs: number,
): HostingEffect[] {
  if (!state.ending) return standbyOffers(state.standby, offers, freshId, nowMs);
  return offers.map(({ offerId }) => ({ type: 'offer.decline', offerId, refuseMs: 0 }));
}

function programEnded(state: HostingState, end: ProgramEnd, nowMs: number): HostingEffect[] {
  const before = state.program;
  assert(before === 'running' || before === 'holding', `a program has ended that was ${before}`);
  state.program = before === 'holding' ? 'held' : 'waiting';
  if (state.ending) return leaveIfReady(state);
  if (before === 'holding') return [];
  if (end.exitCode === 0) return leave(state, 'over', 0, 'the program is done');
  state.failures = failuresAfter(state.failures, nowMs - state.startedAtMs);
  const { maxRestarts } = state.options;
  const words = `the program ${end.words}`;
  if (state.failures > maxRestarts) {
    const often = maxRestarts === 0 ? '' : `, after ${String(maxRestarts)} restarts in a row`;
    return leave(state, 'over', end.exitCode, `${words}${often}; it is not started again`);
  }
  const delayMs = delayAfter(state.failures);
  state.startAtMs = nowMs + delayMs;
  const attempt = `${String(state.failures)} of ${String(maxRestarts)}`;
  return [say(`${words}; it is started again in ${String(delayMs / 1000)} s (${attempt})`)];
}

/** What counts is when it was asked: after a pause of this process the answer is as old as the pause is long. */
function registrySeen(state: HostingState, askedAtMs: number, nowMs: number): HostingEffect[] {
  const { stopAfterMs = Infinity } = state.options;
  state.seenAtMs = askedAtMs;
  if (state.program !== 'held' || state.ending || nowMs - askedAtMs >= stopAfterMs) return [];
  state.program = 'waiting';
  state.startAtMs = nowMs;
  return [say('the cluster answers again'), ...tick(state, nowMs)];
}

function endAsked(state: HostingState, nowMs: number): HostingEffect[] {
  if (state.ending) return [];
  const graceMs = Math.max(state.options.killGraceMs - FAREWELL_MS, 0);
  // The program has had the signal too: it goes to every process of the unit.
  state.ending = { isWished: undefined, killAtMs: nowMs + graceMs };
  return tick(state, nowMs);
}

function endExplained(state: HostingState, isWished: boolean): HostingEffect[] {
  if (!state.ending) return [];
  state.ending.isWished = isWished;
  return leaveIfReady(state);
}

function leaveIfReady(state: HostingState): HostingEffect[] {
  const isWished = state.ending?.isWished;
  if (isWished === undefined || isAlive(state)) return [];
  return isWished
    ? leave(state, 'over', 0, 'the end was asked for')
    : leave(state, 'away', 0, 'this node ends its tasks: a standby goes on');
}

/** The program is ended whatever it does, for another one may begin at any moment. */
function leave(
  state: HostingState,
  how: Leaving,
  exitCode: number,
  words: string,
): HostingEffect[] {
  state.hasLeft = true;
  const effects: HostingEffect[] = [say(words)];
  if (isAlive(state)) effects.push(...killProgram());
  if (how === 'over') effects.push(...killOthers(state));
  return [...effects, { type: 'leave', how, exitCode }];
}

function killOthers({ standby }: HostingState): HostingEffect[] {
  return [...standby.others]
    .filter(([, { state }]) => !isTerminal(state))
    .map(([taskId]) => ({ type: 'runner.kill', taskId }));
}

/** It has a process. */
function isAlive({ program }: HostingState): boolean {
  return program === 'running' || program === 'holding';
}

function killProgram(): HostingEffect[] {
  return [{ type: 'program.kill' }];
}

function say(words: string): HostingEffect {
  return { type: 'say', words };
}
