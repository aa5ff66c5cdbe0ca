/**
 * What is asked of whoever leads, because nobody else knows it (what was declined, say): why a framework waits, what is known
 * of a task, what would fit. It takes an operator, as the question goes through the inbox.
 */
import { z } from 'zod';
import { explainEnded } from '../../io/ended-words.ts';
import { readHistory } from '../../io/registry.ts';
import { viewOfEnded } from '../../io/task-view.ts';
import { PossibleNeed } from '../../protocol/explanation.ts';
import { FrameworkId, TaskId } from '../../protocol/ids.ts';
import { ROLE_DEFAULT } from '../../protocol/roles.ts';
import type { Answer } from './answer.ts';
import { ApiError, ok } from './answer.ts';
import { readBody } from './body.ts';
import type { ActOptions } from './inbox.ts';
import { ask } from './inbox.ts';
import { notFound } from './reads.ts';
import type { ApiRequest, Route } from './routes.ts';

const NeedBody = z.strictObject({
  ...PossibleNeed.shape,
  role: PossibleNeed.shape.role.default(ROLE_DEFAULT),
});

/** @returns the routes that ask the leader */
export function questionRoutes(options: ActOptions): Route[] {
  const get = (path: string, handle: Route['handle']): Route => ({
    ...{ method: 'GET', path, need: 'change', handle },
  });
  return [
    get('/v1/frameworks/:framework/why', (request) =>
      whyFramework(options, request, request.params.get('framework') ?? ''),
    ),
    get('/v1/why/:id', (request) => why(options, request)),
    get('/v1/why/:framework/:task', (request) => {
      const [frameworkId = '', taskId = ''] = request.params.values();
      return whyTask(options, request, { frameworkId, taskId });
    }),
    {
      ...{ method: 'POST', path: '/v1/explain', need: 'change' },
      handle: (request) => explainNeed(options, request),
    },
  ];
}

/** A framework by its id or name, else a task by its id or name; none by the beginning of it, as programs ask. */
async function why(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const asked = request.params.get('id') ?? '';
  const { frameworks, tasks } = await options.read();
  const framework =
    frameworks.find(({ info }) => info.frameworkId === asked) ??
    onlyOne(
      asked,
      frameworks.filter(({ info }) => info.name === asked),
      ({ info }) => info.frameworkId,
    );
  if (framework) return whyFramework(options, request, framework.info.frameworkId);
  const byId = tasks.filter(({ taskId }) => taskId === asked);
  const found = byId.length > 0 ? byId : tasks.filter(({ name }) => name === asked);
  const task = onlyOne(asked, found, ({ frameworkId, taskId }) => `${frameworkId}/${taskId}`);
  if (task) return whyTask(options, request, task);
  return whyEnded(options, asked, ({ taskId, name }) => taskId === asked || name === asked);
}

/** @throws ApiError 409 if several are meant */
function onlyOne<T>(asked: string, found: readonly T[], idOf: (one: T) => string): T | undefined {
  if (found.length <= 1) return found[0];
  const ids = found.slice(0, 10).map(idOf).join(', ');
  throw new ApiError(409, 'ambiguous', {
    message: `${asked.slice(0, 300)} may be any of ${String(found.length)}: ${ids}`,
  });
}

async function whyFramework(
  options: ActOptions,
  request: ApiRequest,
  asked: string,
): Promise<Answer> {
  const id = FrameworkId.safeParse(asked);
  if (!id.success) throw notFound('framework', asked);
  const message = { type: 'Explain', frameworkId: id.data } as const;
  const { explanation } = await ask(options, request.caller, message, 'Explained');
  if (explanation) return ok(explanation);
  throw notFound('framework', asked);
}

async function whyTask(
  options: ActOptions,
  request: ApiRequest,
  asked: { readonly frameworkId: string; readonly taskId: string },
): Promise<Answer> {
  const ids = z.object({ frameworkId: FrameworkId, taskId: TaskId }).safeParse(asked);
  const { frameworkId, taskId } = asked;
  if (!ids.success) throw notFound('task', `${frameworkId}/${taskId}`);
  const message = { type: 'Explain', ...ids.data } as const;
  const { task } = await ask(options, request.caller, message, 'Explained');
  if (task) return ok(task);
  // It is in the history, if it ever was.
  return whyEnded(
    options,
    `${frameworkId}/${taskId}`,
    (one) => one.frameworkId === frameworkId && one.taskId === taskId,
  );
}

/** The newest of several. */
async function whyEnded(
  { store }: ActOptions,
  asked: string,
  isMeant: (one: {
    readonly frameworkId: string;
    readonly taskId: string;
    readonly name: string;
  }) => boolean,
): Promise<Answer> {
  for await (const ended of readHistory(store, [])) {
    if (isMeant(ended)) return ok(explainEnded(viewOfEnded(ended)));
  }
  throw notFound('framework or task', asked);
}

async function explainNeed(options: ActOptions, request: ApiRequest): Promise<Answer> {
  const wanted = await readBody(request.message, NeedBody);
  const message = { type: 'Explain', need: wanted } as const;
  const { need } = await ask(options, request.caller, message, 'Explained');
  if (need) return ok(need);
  throw new ApiError(504, 'not-taken', {
    message: 'the master that leads does not know that question',
  });
}
