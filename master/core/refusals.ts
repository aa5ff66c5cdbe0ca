/**
 * What a secured cluster does not act on: an entry that nobody can be held to, a message that its principal may not say. Each
 * is told to whoever waits for an answer, as far as nobody else can be harmed by that, and to the event log; a flood of
 * them is one event.
 */
import type { SessionId } from '../../protocol/ids.ts';
import { sessionNumber } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import type { Message } from '../../protocol/messages.ts';
import type { PrincipalProblem } from '../../protocol/principals.ts';
import { agentOverflowing } from './agents.ts';
import type { StepContext } from './effects.ts';
import { appendEvent } from './effects.ts';
import { disconnectFramework } from './frameworks.ts';
import type { MessageEvent } from './messages.ts';
import { problemOfSaying, speakerOf } from './permissions.ts';
import type { Agent, Framework } from './state.ts';
import { agentOf, frameworkOf } from './state.ts';

/**
 * Why the shell has not taken an entry: `unauthenticated`: it is not signed; `forged`: not with a key of this cluster;
 * `replayed`: it was taken before; `stale`: of a session that nobody has heard of, and that is too old to begin.
 */
export type EntryProblem = 'unauthenticated' | 'forged' | 'replayed' | 'stale' | PrincipalProblem;

/** An entry of the inbox that was not taken. All that it says of itself may be wrong. */
export interface EntryRefusedEvent {
  readonly type: 'entry.refused';
  readonly from: string;
  readonly session: string;
  readonly code: EntryProblem;
  /** As whom it was said; only the name of a token that exists. */
  readonly principal?: string;
}

/** The same refusal of the same client is one event in this time, milliseconds. */
const REPEAT_MS = 60_000;
/** So many refusals are remembered; above it the oldest is forgotten. */
const REMEMBERED_MAX = 1000;
/** As clients are named by their own programs, and no longer than a key should be. */
const CLIENT = /^(?:agent|framework|operator):[A-Za-z0-9][A-Za-z0-9_.:@-]{0,150}$/;

const HINT_NEW =
  "kaon token create on a master's host makes one, then KAON_TOKEN_FILE=PATH gives it to a client";

const WORDS: Readonly<Record<EntryProblem, string>> = {
  unauthenticated: `the cluster is secured and no token was given; hint: ${HINT_NEW}`,
  forged: `the token is not one of this cluster, or was not copied whole; hint: ${HINT_NEW}`,
  unknown: `the cluster knows no token of this name; hint: ${HINT_NEW}`,
  revoked: `the token was revoked; hint: ${HINT_NEW}`,
  rotated: 'the token was replaced by a newer one; hint: kaon token rotate has printed that',
  expired: `the token has expired; hint: ${HINT_NEW}`,
  replayed: 'an entry that was taken before has come again',
  stale: 'its session is too old to begin',
};

/** @returns what a person is told of a token that is not good */
export function wordsOf(problem: EntryProblem): string {
  return WORDS[problem];
}

/** @returns the code of it, for programs: `unauthenticated`, `token-revoked` */
export function codeOf(problem: EntryProblem): string {
  return problem === 'unauthenticated' ? problem : `token-${problem}`;
}

/** An entry that the shell has not taken. */
export function entryRefused(cx: StepContext, event: EntryRefusedEvent): void {
  const { from, session, code, principal } = event;
  audit(cx, { from, code: codeOf(code), words: wordsOf(code), principal });
  if (!CLIENT.test(from) || sessionNumber(session) === 0) return;
  const holder = registered(cx, from, session);
  if (holder) {
    if (code === 'stale') endSession(cx, holder, 'its session is not known to this leader');
    // It has registered when the cluster was open: from now on it needs a token.
    else if (code === 'unauthenticated' && ownerOf(holder) === undefined) {
      endSession(cx, holder, wordsOf(code));
      answer(cx, event, codeOf(code), wordsOf(code));
    }
    // Else somebody speaks in the name of a client that lives: it is not to suffer for that.
    return;
  }
  if (code !== 'replayed') answer(cx, event, codeOf(code), wordsOf(code));
}

/** @returns false if the sender may not say that; then it has been dealt with */
export function isAllowed(cx: StepContext, event: MessageEvent): boolean {
  const { principal, from, session, message } = event;
  if (!principal) return true;
  const problem = problemOfSaying(principal, event, (frameworkId) => {
    const framework = cx.state.frameworks.get(frameworkId);
    return framework && ownerOf(framework);
  });
  if (problem === undefined) return true;
  const words = `not allowed: ${problem}`;
  audit(cx, { from, code: 'forbidden', words, principal: principal.name, what: message.type });
  if (CLIENT.test(from) && !registered(cx, from, session)) answer(cx, event, 'forbidden', words);
  return false;
}

/** The session ends because its token is not good any more: its client is told why, its tasks go on. */
export function endSessionOf(
  cx: StepContext,
  holder: Agent | Framework,
  problem: PrincipalProblem,
): void {
  const { session } = holder.record;
  if (session === undefined) return;
  const from = nameOf(holder);
  endSession(cx, holder, wordsOf(problem));
  const farewell = refusalTo(from, codeOf(problem), wordsOf(problem));
  cx.effects.push({ type: 'stream.end', client: from, session, ...(farewell && { farewell }) });
}

function endSession(cx: StepContext, holder: Agent | Framework, reason: string): void {
  if ('node' in holder.record) agentOverflowing(cx, holder as Agent, reason);
  else disconnectFramework(cx, holder as Framework, reason);
}

function nameOf({ record: { info } }: Agent | Framework): ClientName {
  return 'agentId' in info ? `agent:${info.agentId}` : `framework:${info.frameworkId}`;
}

function ownerOf({ record }: Agent | Framework): string | undefined {
  return 'node' in record ? record.principal : record.info.principal;
}

/** The client of that name, if this is the session that it has registered. */
function registered(cx: StepContext, from: string, session: string): Agent | Framework | undefined {
  const holder = agentOf(cx.state, from) ?? frameworkOf(cx.state, from);
  return holder?.record.session === session ? holder : undefined;
}

interface Refused {
  readonly from: string;
  readonly code: string;
  readonly words: string;
  readonly principal?: string | undefined;
  /** Type of the message. */
  readonly what?: string;
}

/** A line in the event log; the next ones of the same kind in a minute are counted, and told with the first after it. */
function audit(cx: StepContext, { from, code, words, principal, what }: Refused): void {
  const { refusals } = cx.state;
  const key = [code, principal ?? from.slice(0, 200), what ?? ''].join(' ');
  const known = refusals.get(key);
  if (known && cx.nowMs - known.atMs < REPEAT_MS) {
    known.count += 1;
    return;
  }
  const repeats = known && known.count > 0 ? `; ${String(known.count)} more before` : '';
  refusals.delete(key);
  refusals.set(key, { atMs: cx.nowMs, count: 0 });
  const [oldest] = refusals.keys();
  if (refusals.size > REMEMBERED_MAX && oldest !== undefined) refusals.delete(oldest);
  const client = CLIENT.test(from) ? from : JSON.stringify(from.slice(0, 200));
  const said = what === undefined ? '' : ` ${what}`;
  appendEvent(cx, {
    type: 'request.refused',
    reason: code,
    message: `${client}${said}: ${words}${repeats}`.slice(0, TEXT_MAX_CHARS),
    ...(principal !== undefined && { principal }),
  });
}

/** The answer goes to a session that is never registered: its stream is made for this, and expires. */
function answer(
  cx: StepContext,
  { from, session }: { readonly from: string; readonly session: string },
  code: string,
  message: string,
): void {
  const farewell = refusalTo(from, code, message);
  if (farewell) answerWith(cx, { from, session }, farewell);
}

/** Into the stream of a session that nobody has registered, which goes soon after. */
export function answerWith(
  cx: StepContext,
  { from, session }: { readonly from: string; readonly session: string },
  farewell: Message,
): void {
  if (!CLIENT.test(from) || sessionNumber(session) === 0) return;
  cx.effects.push({
    type: 'stream.end',
    client: from as ClientName,
    session: session as SessionId,
    farewell,
    isRefusal: true,
  });
}

function refusalTo(client: string, code: string, words: string): Message | undefined {
  const message = words.slice(0, TEXT_MAX_CHARS);
  switch (speakerOf(client)) {
    case 'framework':
      return { type: 'FrameworkError', code, message };
    case 'agent':
      return { type: 'AgentError', code, message };
    case 'operator':
      return { type: 'RequestRefused', code, message };
    default:
      return undefined;
  }
}
