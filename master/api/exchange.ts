/** One request, from its first line to its answer: what is checked, in which order, and what a failure looks like. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Log } from '../../io/log.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { messageOf } from '../../protocol/errors.ts';
import type { accessLog } from './access-log.ts';
import type { Caller, Gate } from './access.ts';
import type { Answer } from './answer.ts';
import { ApiError, writeAnswer } from './answer.ts';
import { checkAccept, checkContentType, checkHost, checkNoBrowser } from './guards.ts';
import type { IsOwnName } from './guards.ts';
import { matchRoute } from './routes.ts';
import type { Route } from './routes.ts';
import { parseTarget } from './target.ts';

/** Reading takes no longer than this, milliseconds; a Redis that hangs is not waited for. */
const READ_TIMEOUT_MS = 10_000;
/** The same of what waits for a master. */
const CHANGE_TIMEOUT_MS = 20_000;

/** What requests are answered with. */
export interface ExchangeOptions {
  readonly routes: readonly Route[];
  readonly gate: Gate;
  readonly store: RedisStore;
  readonly log: Log;
  readonly isOwnName: IsOwnName;
  /** Told of each answer; see `access-log.ts`. */
  readonly tell: ReturnType<typeof accessLog>;
}

/** Answers a request; never rejects. */
export async function exchange(
  options: ExchangeOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const isHead = request.method === 'HEAD';
  let answer: Answer;
  let name: string | undefined;
  try {
    answer = await answerOf(options, request, (caller) => (name = caller.name));
  } catch (error) {
    answer = answerOfFailure(options.log, request, error);
  }
  options.tell(request, answer, name);
  // Whoever has hung up hears nothing, and nothing else is wrong with that.
  if (response.destroyed || response.headersSent) return;
  // What is left of a body that nobody reads would be taken for the next request.
  if (!request.complete) response.setHeader('Connection', 'close');
  writeAnswer(response, answer, isHead);
}

async function answerOf(
  options: ExchangeOptions,
  request: IncomingMessage,
  onAdmitted: (caller: Caller) => void,
): Promise<Answer> {
  const { routes, gate, store, isOwnName } = options;
  const { method = '', url = '', headers } = request;
  checkHost(headers, isOwnName);
  const { query, ...target } = parseTarget(url);
  const { route, params } = matchRoute(routes, method, { ...target, query });
  checkAccept(headers);
  if (route.method !== 'GET') {
    checkNoBrowser(headers);
    checkContentType(headers);
  }
  if (store.redis.status !== 'ready') throw redisAway();
  const limitMs = route.method === 'GET' ? READ_TIMEOUT_MS : CHANGE_TIMEOUT_MS;
  return inTime(limitMs, async () => {
    const { need } = route;
    const caller: Caller =
      need === 'nothing' ? { name: 'anybody' } : await gate.admit(request, need);
    onAdmitted(caller);
    return route.handle({ params, query, caller, message: request });
  });
}

async function inTime<T>(limitMs: number, work: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(redisAway());
    }, limitMs);
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}

function redisAway(): ApiError {
  return new ApiError(503, 'redis-unreachable', {
    message: 'Redis does not answer this master',
    headers: { 'Retry-After': '1' },
  });
}

/** What was not foreseen is for the log alone: its words may name paths, hosts or secrets. */
function answerOfFailure(log: Log, { method, url }: IncomingMessage, error: unknown): Answer {
  if (error instanceof ApiError) return error.answer;
  const path = (url ?? '').split('?')[0]?.slice(0, 200);
  log.error('api.request-failed', { method, path, error: messageOf(error) });
  return new ApiError(500, 'internal', {
    message: 'this master could not answer; its log says why',
  }).answer;
}
