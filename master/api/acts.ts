/**
 * What can be done by the API: the same that operators do by commands, in the same way. A message goes into the inbox,
 * under the name and with the key of whoever has asked; it is answered when the registry or the event log shows what
 * became of it.
 */
import { z } from 'zod';
import type { Clock } from '../../io/clock.ts';
import { randomName } from '../../io/clock.ts';
import { newestEntry, readEvents } from '../../io/event-log.ts';
import type { LoggedEvent } from '../../io/event-log.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { readAgent } from '../../io/registry.ts';
import { macOfAppend } from '../../io/signing.ts';
import { START } from '../../io/store.ts';
import { keyOf } from '../../io/tokens.ts';
import { taskJson } from '../../io/task-view.ts';
import type { TaskView } from '../../io/task-view.ts';
import { decodeEntry, encodeEntries } from '../../protocol/codec.ts';
import type { AgentId, SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import { formatDuration, parseDuration } from '../../protocol/quantities.ts';
import type { Caller } from './access.ts';
import type { Answer } from './answer.ts';
import { ApiError, ok } from './answer.ts';
import { readBody } from './body.ts';
import { findTask, notFound } from './reads.ts';
import type { ApiRequest, Route } from './routes.ts';

/** A master takes it within milliseconds, if one leads; a failover takes some seconds. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 50;
/** An hour, as the messages have it. */
const GRACE_MAX_MS = 3_600_000;

/** What the API acts by. */
export interface ActOptions {
  readonly store: RedisStore;
  readonly clock: Clock;
  /** Absent in an open cluster. */
  readonly clusterKey?: Buffer | undefined;
  /** Of this machine: part of the name under which an act is done. */
  readonly hostname: string;
}

const KillBody = z.strictObject({
  gracePeriod: z
    .string()
    .refine(
      (text) => (parseDuration(text) ?? Infinity) <= GRACE_MAX_MS,
      'not a duration of an hour at most: 5s',
    )
    .optional(),
});
const GoneBody = z.strictObject({ force: z.boolean().default(false) });

/** @returns the routes that change something */
export function actRoutes(options: ActOptions): Route[] {
  const post = (path: string, handle: Route['handle']): Route => ({
    ...{ method: 'POST', path, need: 'change', handle },
  });
  return [
    post('/v1/tasks/:framework/:task/kill', (request) => kill(options, request)),
    post('/v1/agents/:agent/gone', (request) => gone(options, request)),
  ];
}

async function kill(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const { store } = options;
  const { gracePeriod } = await readBody(request.message, KillBody);
  const task = await findTask(store, request.params);
  if (!task) throw notFound('task', [...request.params.values()].join('/'));
  if (task.endedAtMs !== undefined) return ok({ result: 'had-ended', task: taskJson(task) });
  const { frameworkId, taskId } = task;
  const gracePeriodMs = gracePeriod === undefined ? undefined : parseDuration(gracePeriod);
  const grace = gracePeriodMs === undefined ? {} : { gracePeriodMs };
  const message: Message = { type: 'KillTask', frameworkId, taskId, by: 'operator', ...grace };
  const event = await act(options, request.caller, {
    message,
    what: `the kill of ${frameworkId}/${taskId}`,
    isDone: (one) => isKillOf(one, task),
    isOver: async () => (await findTask(store, request.params))?.endedAtMs !== undefined,
  });
  if (event) return ok({ result: 'kill-requested', event });
  const ended = await findTask(store, request.params);
  return ok({ result: 'had-ended', task: taskJson(ended ?? task) });
}

function isKillOf(event: LoggedEvent, { frameworkId, taskId }: TaskView): boolean {
  const isOfIt = event.frameworkId === frameworkId && event.taskId === taskId;
  return isOfIt && event.type === 'task.kill-requested' && event.reason === 'operator';
}

async function gone(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const { store } = options;
  const { force } = await readBody(request.message, GoneBody);
  const id = request.params.get('agent') ?? '';
  const record = await readAgent(store, id);
  if (!record) throw notFound('agent', id);
  const { agentId } = record.info;
  if (record.state === 'gone') return ok({ result: 'was-gone', agentId, ended: [] });
  if (record.state === 'active' && !force) {
    throw new ApiError(409, 'agent-active', {
      message: `agent ${agentId} is active; gone is for a node that will not come back`,
      hint: 'is it down for good, and only looks alive? then send {"force": true}',
    });
  }
  const before = await newestEntry(store);
  await act(options, request.caller, {
    message: { type: 'MarkAgentGone', agentId },
    what: `the word that ${agentId} is gone`,
    isDone: (event) => event.type === 'agent.removed' && event.agentId === agentId,
    isOver: async () => (await readAgent(store, agentId))?.state === 'gone',
  });
  return ok({ result: 'gone', agentId, ended: await endedBy(store, agentId, before) });
}

/** @returns the tasks that were ended by the word */
async function endedBy(store: RedisStore, agentId: AgentId, before: string): Promise<object[]> {
  const ended: object[] = [];
  for await (const event of readEvents(store, { from: `(${before}` }, [])) {
    const isEnd = event.type === 'task.updated' && event.state === 'TASK_GONE_BY_OPERATOR';
    if (!isEnd || event.agentId !== agentId) continue;
    ended.push({ frameworkId: event.frameworkId, taskId: event.taskId });
  }
  return ended;
}

interface Act {
  readonly message: Message;
  /** For errors: `the kill of f/t`. */
  readonly what: string;
  /** Whether the event shows that it was done. */
  readonly isDone: (event: LoggedEvent) => boolean;
  /** Whether there is nothing left to be done, by whomever it was done. */
  readonly isOver: () => Promise<boolean>;
}

/**
 * @returns the event that shows it; undefined if somebody or something else was faster
 * @throws ApiError 403 if the master has refused it, 503 if the inbox is full, 504 if nobody has taken it in time
 */
async function act(
  options: ActOptions,
  caller: Caller,
  { message, what, isDone, isOver }: Act,
): Promise<LoggedEvent | undefined> {
  const { store, clock } = options;
  const isOwn = ({ principal }: LoggedEvent): boolean => principal === caller.principal?.name;
  let after = await newestEntry(store);
  const { client, session } = await say(options, caller, message);
  const deadlineMs = clock.monotonicMs() + PATIENCE_MS;
  while (clock.monotonicMs() < deadlineMs) {
    // Looked at first: what is over now has its event already, if it is to have one.
    const wasOver = await isOver();
    for await (const event of readEvents(store, { from: `(${after}` }, [])) {
      if (isDone(event) && isOwn(event)) return event;
      after = event.id.replace(/\.\d+$/, '');
    }
    if (wasOver) return undefined;
    await throwRefusal(store, client, session);
    await clock.sleep(LOOK_MS);
  }
  throw new ApiError(504, 'not-taken', {
    message: `${what} was not seen within ${formatDuration(PATIENCE_MS)}: no master has taken it`,
    hint: 'the request stays in force; GET /v1/leader says whether a master leads',
  });
}

/** Into the inbox, signed as the caller would sign it. */
async function say(
  { store, clusterKey, hostname }: ActOptions,
  { name, principal }: Caller,
  message: Message,
): Promise<{ client: ClientName; session: SessionId }> {
  const part = (text: string): string => text.replace(/[^\w.-]+/g, '_').slice(0, 40);
  const client: ClientName = `operator:${part(name)}@${part(hostname)}.api.${randomName(6)}`;
  const session = await store.openSession(client);
  const [messages = '[]'] = encodeEntries([message]);
  const append = { client, session, sequence: 1, messages };
  const signature = clusterKey &&
    principal && {
      principal: principal.name,
      generation: principal.generation,
      mac: macOfAppend(
        keyOf(clusterKey, principal.name, principal.generation),
        { place: store.keys.prefix, client, session },
        append.sequence,
        messages,
      ),
    };
  const result = await store.append({ ...append, ...(signature && { signature }) });
  if (result === 'appended' || result === 'duplicate') return { client, session };
  throw new ApiError(503, 'inbox-full', {
    message: `nothing was done: the inbox of the master is ${result}`,
    hint: 'is a master leading? GET /v1/leader says so; try again',
    headers: { 'Retry-After': '2' },
  });
}

async function throwRefusal(
  store: RedisStore,
  client: ClientName,
  session: SessionId,
): Promise<void> {
  for (const { messages } of await store.readClient(client, session, START, 0)) {
    for (const decoded of decodeEntry(messages)) {
      if (!decoded.ok || decoded.value.type !== 'RequestRefused') continue;
      const { code, message } = decoded.value;
      throw new ApiError(403, code, { message });
    }
  }
}
