/**
 * What can be done by the API: the same that operators do by commands, in the same way (`inbox.ts`). What is done to agents
 * is in `agent-acts.ts`.
 */
import { z } from 'zod';
import type { LoggedEvent } from '../../io/event-log.ts';
import { taskJson } from '../../io/task-view.ts';
import type { TaskView } from '../../io/task-view.ts';
import type { Message } from '../../protocol/messages.ts';
import { parseDuration } from '../../protocol/quantities.ts';
import { PartialResources, problemOfRole, Weight } from '../../protocol/roles.ts';
import { agentActRoutes } from './agent-acts.ts';
import type { Answer } from './answer.ts';
import { ApiError, ok } from './answer.ts';
import { readBody } from './body.ts';
import type { ActOptions } from './inbox.ts';
import { act, wish } from './inbox.ts';
import { questionRoutes } from './questions.ts';
import { findTask, notFound } from './reads.ts';
import type { ApiRequest, Route } from './routes.ts';

/** An hour, as the messages have it. */
const GRACE_MAX_MS = 3_600_000;

const KillBody = z.strictObject({
  gracePeriod: z
    .string()
    .refine(
      (text) => (parseDuration(text) ?? Infinity) <= GRACE_MAX_MS,
      'not a duration of an hour at most: 5s',
    )
    .optional(),
});
const RoleBody = z.strictObject({
  weight: Weight.nullable().optional(),
  guarantee: z.strictObject(PartialResources.shape).nullable().optional(),
  limit: z.strictObject(PartialResources.shape).nullable().optional(),
  force: z.boolean().default(false),
});

/** @returns the routes that change something, or ask whoever leads */
export function actRoutes(options: ActOptions): Route[] {
  const post = (path: string, handle: Route['handle']): Route => ({
    ...{ method: 'POST', path, need: 'change', handle },
  });
  return [
    post('/v1/tasks/:framework/:task/kill', (request) => kill(options, request)),
    post('/v1/roles/:role+', (request) => changeRole(options, request)),
    ...agentActRoutes(options),
    ...questionRoutes(options),
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

async function changeRole(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const role = request.params.get('role') ?? '';
  const problem = problemOfRole(role);
  if (problem !== undefined) throw new ApiError(400, 'no-role', { message: problem });
  const wished = await readBody(request.message, RoleBody);
  const event = await wish(options, request.caller, {
    message: (requestId) => ({ type: 'UpdateRole', requestId, role, ...wished }),
    what: `the change of role ${role}`,
    refusal: { type: 'role.refused', code: 'role-refused' },
  });
  return ok({ result: 'updated', event });
}
