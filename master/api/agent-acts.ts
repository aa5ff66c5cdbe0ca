/** What can be done to agents by the API: gone, drained, deactivated, and offered again. */
import { z } from 'zod';
import { newestEntry, readEvents } from '../../io/event-log.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { readAgent } from '../../io/registry.ts';
import { DurationMs, Labels } from '../../protocol/fields.ts';
import type { AgentId, SessionId } from '../../protocol/ids.ts';
import { ReservationId } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import { parseDuration } from '../../protocol/quantities.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { Resources } from '../../protocol/resources.ts';
import { RoleName } from '../../protocol/roles.ts';
import type { Answer } from './answer.ts';
import { ApiError, ok } from './answer.ts';
import { readBody } from './body.ts';
import type { ActOptions } from './inbox.ts';
import { act, wish } from './inbox.ts';
import { notFound } from './reads.ts';
import type { ApiRequest, Route } from './routes.ts';

const Duration = z
  .string()
  .refine(
    (text) => DurationMs.safeParse(parseDuration(text)).success,
    'not a duration of ten years at most: 10m',
  );
const DrainBody = z.strictObject({ in: Duration.optional(), deadline: Duration.optional() });
const GoneBody = z.strictObject({ force: z.boolean().default(false) });
const EmptyBody = z.strictObject({});
const ReserveBody = z.strictObject({
  role: RoleName,
  resources: z.strictObject(Resources.shape),
  labels: Labels.default({}),
  parentId: ReservationId.optional(),
});
const UnreserveBody = z.strictObject({
  reservationId: ReservationId,
  destroy: z.boolean().optional(),
});

/** @returns the routes that do something to an agent */
export function agentActRoutes(options: ActOptions): Route[] {
  const post = (act: string, handle: (request: ApiRequest) => Promise<Answer>): Route => ({
    ...{ method: 'POST', path: `/v1/agents/:agent/${act}`, need: 'change', handle },
  });
  return [
    post('gone', (request) => gone(options, request)),
    post('drain', (request) => drain(options, request)),
    post('undrain', (request) =>
      change(options, request, { type: 'UndrainAgent', ...DRAIN, result: 'undrained' }),
    ),
    post('deactivate', (request) =>
      change(options, request, { type: 'DeactivateAgent', ...ACTIVITY, result: 'deactivated' }),
    ),
    post('reserve', (request) => reserve(options, request)),
    post('unreserve', (request) => unreserve(options, request)),
    post('reactivate', (request) =>
      change(options, request, { type: 'ReactivateAgent', ...ACTIVITY, result: 'reactivated' }),
    ),
  ];
}

/** How the master refuses, and how that is told. */
const DRAIN = { refusal: { type: 'agent.drain-refused', code: 'drain-refused' } };
const ACTIVITY = {
  refusal: { type: 'agent.deactivation-refused', code: 'deactivation-refused' },
};

/** @throws ApiError 404 */
async function findAgent({ store }: ActOptions, { params }: ApiRequest): Promise<AgentRecord> {
  const id = params.get('agent') ?? '';
  const record = await readAgent(store, id);
  if (record) return record;
  throw notFound('agent', id);
}

async function gone(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const { store } = options;
  const { force } = await readBody(request.message, GoneBody);
  const record = await findAgent(options, request);
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

async function drain(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const body = await readBody(request.message, DrainBody);
  const { agentId } = (await findAgent(options, request)).info;
  const deadlineMs = body.deadline === undefined ? undefined : parseDuration(body.deadline);
  const event = await wish(options, request.caller, {
    message: (requestId) => ({
      type: 'DrainAgent',
      ...{ requestId, agentId, inMs: parseDuration(body.in ?? '0s') ?? 0 },
      ...(deadlineMs !== undefined && { deadlineMs }),
    }),
    what: `the drain of ${agentId}`,
    ...DRAIN,
  });
  return ok({ result: 'drain-requested', agentId, event });
}

const RESERVATION = { refusal: { type: 'reservation.refused', code: 'reservation-refused' } };

async function reserve(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const agentId = (request.params.get('agent') ?? '') as AgentId;
  const body = await readBody(request.message, ReserveBody);
  const event = await wish(options, request.caller, {
    message: (requestId) => ({ type: 'Reserve', requestId, agentId, ...body }),
    what: `the reservation on ${agentId}`,
    ...RESERVATION,
  });
  return ok({ result: 'reserved', event });
}

async function unreserve(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const agentId = (request.params.get('agent') ?? '') as AgentId;
  const body = await readBody(request.message, UnreserveBody);
  const event = await wish(options, request.caller, {
    message: (requestId) => ({ type: 'Unreserve', requestId, agentId, ...body }),
    what: `the end of reservation ${body.reservationId}`,
    ...RESERVATION,
  });
  return ok({ result: 'unreserved', event });
}

interface Change {
  readonly type: 'UndrainAgent' | 'DeactivateAgent' | 'ReactivateAgent';
  readonly refusal: { readonly type: string; readonly code: string };
  readonly result: string;
}

/** One that says nothing but which agent it is about. */
async function change(
  options: ActOptions,
  request: ApiRequest,
  { type, refusal, result }: Change,
): Promise<Answer> {
  await readBody(request.message, EmptyBody);
  const { agentId } = (await findAgent(options, request)).info;
  const message = (requestId: SessionId): Message => ({ type, requestId, agentId });
  const what = `that ${agentId} is ${result}`;
  const event = await wish(options, request.caller, { message, what, refusal });
  return ok({ result, agentId, event });
}
