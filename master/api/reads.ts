/** What can be read by the API: the same records that commands print with `--json`, each in an object of its own. */
import { leaderStatus, readStatus } from '../../io/cluster-status.ts';
import {
  keptSince,
  newestEntry,
  readEventsAfter,
  readEventsBackwards,
} from '../../io/event-log.ts';
import type { LoggedEvent } from '../../io/event-log.ts';
import { agentJson, agentRows, frameworkJson, frameworkRows } from '../../io/registry-rows.ts';
import { reservationRows } from '../../io/reservation-rows.ts';
import { roleRows } from '../../io/role-rows.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { readHistory, readTask } from '../../io/registry.ts';
import type { Cluster } from '../../io/registry.ts';
import { taskJson, viewOfEnded, viewOfLive } from '../../io/task-view.ts';
import type { TaskView } from '../../io/task-view.ts';
import { entryOf, parsePosition } from '../../protocol/event-position.ts';
import type { MasterId } from '../../protocol/ids.ts';
import { FrameworkRecord } from '../../protocol/records.ts';
import { decodeWith } from '../../protocol/codec.ts';
import { isTerminal, TaskState } from '../../protocol/task-state.ts';
import type { Answer } from './answer.ts';
import { ApiError, ok } from './answer.ts';
import type { ApiRequest, Route } from './routes.ts';

/** What the API reads from, and who answers. */
export interface ReadOptions {
  readonly store: RedisStore;
  /** Reads the registry. */
  readonly read: () => Promise<Cluster>;
  readonly redis: string;
  readonly cluster: string;
  readonly masterId: MasterId;
}

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 5000;

/** @returns the routes that read */
export function readRoutes(options: ReadOptions): Route[] {
  const get = (path: string, handle: Route['handle'], query: readonly string[] = []): Route => ({
    ...{ method: 'GET', path, need: 'read', query, handle },
  });
  return [
    { ...get('/healthz', () => health(options)), need: 'nothing' },
    get('/v1/leader', () => leader(options)),
    get('/v1/status', async () => {
      const { found } = await readStatus(options.store, options, options.read);
      return ok(found);
    }),
    get('/v1/agents', async () => {
      const cluster = await options.read();
      return listing(cluster, { agents: agentRows(cluster).map(agentJson) });
    }),
    get('/v1/agents/:agent', (request) => agent(options, request)),
    get('/v1/frameworks', async () => {
      const cluster = await options.read();
      return listing(cluster, { frameworks: frameworkRows(cluster).map(frameworkJson) });
    }),
    get('/v1/roles', async () => {
      const cluster = await options.read();
      return listing(cluster, { roles: roleRows(cluster) });
    }),
    get('/v1/reservations', async () => {
      const cluster = await options.read();
      return listing(cluster, { reservations: reservationRows(cluster) });
    }),
    get('/v1/offers', async () => {
      const cluster = await options.read();
      return listing(cluster, { offers: cluster.offers });
    }),
    get('/v1/tasks', (request) => tasks(options, request), ['state', 'framework', 'limit']),
    get('/v1/tasks/:framework/:task', (request) => task(options, request)),
    get('/v1/events', (request) => events(options, request), ['after', 'limit']),
    get('/v1/whoami', ({ caller }) => Promise.resolve(whoami(caller))),
  ];
}

async function health({ store, masterId }: ReadOptions): Promise<Answer> {
  const found = await store.leader();
  const isLeading = found?.masterId === masterId;
  return ok({ status: 'ok', state: isLeading ? 'leading' : 'standing by' });
}

async function leader({ store, masterId }: ReadOptions): Promise<Answer> {
  const found = leaderStatus(await store.leader());
  const state = found?.masterId === masterId ? 'leading' : 'standing by';
  return ok({ leader: found, answeredBy: { masterId, state } });
}

function whoami({ name, principal }: ApiRequest['caller']): Answer {
  return ok(principal ? { name, kind: principal.kind } : { name, kind: null });
}

/** With the time of the records, and how many were left out because they could not be read. */
function listing(cluster: Cluster, records: object): Answer {
  return ok({ nowMs: cluster.nowMs, ...records, unreadable: cluster.unreadable.length });
}

async function agent({ read }: ReadOptions, { params }: ApiRequest): Promise<Answer> {
  const id = params.get('agent');
  const row = agentRows(await read()).find(({ record }) => record.info.agentId === id);
  if (row) return ok(agentJson(row));
  throw notFound('agent', id);
}

async function tasks({ store, read }: ReadOptions, { query }: ApiRequest): Promise<Answer> {
  const states = statesOf(query.get('state'));
  const framework = query.get('framework');
  const limit = limitOf(query.get('limit'));
  const isMeant = ({ state, frameworkId }: TaskView): boolean =>
    (states ? states.has(state) : !isTerminal(state)) &&
    (framework === undefined || frameworkId === framework);
  const cluster = await read();
  const found = cluster.tasks
    .toSorted((a, b) => b.launchedAtMs - a.launchedAtMs)
    .map((record) => viewOfLive(record, cluster.frameworks))
    .filter(isMeant);
  const unreadable = [...cluster.unreadable];
  if (states && [...states].some(isTerminal) && found.length <= limit) {
    for await (const record of readHistory(store, unreadable)) {
      const view = viewOfEnded(record);
      if (isMeant(view) && found.push(view) > limit) break;
    }
  }
  const isMore = found.length > limit;
  const shown = found.slice(0, limit).map(taskJson);
  return listing({ ...cluster, unreadable }, { tasks: shown, isMore });
}

async function task({ store }: ReadOptions, { params }: ApiRequest): Promise<Answer> {
  const view = await findTask(store, params);
  if (view) return ok(taskJson(view));
  throw notFound('task', [...params.values()].join('/'));
}

/** @returns a task that lives, or else the newest one that has ended under that id */
export async function findTask(
  store: RedisStore,
  params: ApiRequest['params'],
): Promise<TaskView | undefined> {
  const frameworkId = params.get('framework') ?? '';
  const taskId = params.get('task') ?? '';
  const record = await readTask(store, `${frameworkId}/${taskId}`);
  if (record) {
    const text = await store.redis.hget(store.keys.registry.frameworks, frameworkId);
    const framework = text === null ? undefined : decodeWith(FrameworkRecord, text);
    return viewOfLive(record, framework?.ok === true ? [framework.value] : []);
  }
  for await (const ended of readHistory(store, [])) {
    if (ended.frameworkId === frameworkId && ended.taskId === taskId) return viewOfEnded(ended);
  }
  return undefined;
}

/** @returns a 404 that names what was asked for */
export function notFound(what: string, id: string | undefined): ApiError {
  return new ApiError(404, 'not-found', {
    message: `there is no ${what} ${(id ?? '').slice(0, 300)}`,
  });
}

async function events({ store }: ReadOptions, { query }: ApiRequest): Promise<Answer> {
  const limit = limitOf(query.get('limit'));
  const after = query.get('after');
  const found =
    after === undefined ? await newest(store, limit) : await following(store, after, limit);
  const next = found.at(-1)?.id ?? after ?? (await newestEntry(store));
  return ok({ events: found, next });
}

async function newest(store: RedisStore, limit: number): Promise<LoggedEvent[]> {
  const found: LoggedEvent[] = [];
  for await (const event of readEventsBackwards(store, [])) {
    if (found.push(event) >= limit) break;
  }
  return found.reverse();
}

async function following(store: RedisStore, text: string, limit: number): Promise<LoggedEvent[]> {
  const after = parsePosition(text);
  if (!after) throw badParameter('after', 'not an id of an event: 1795200792000-0.1');
  const { first, isKept } = await keptSince(store);
  if (first && !isKept(after)) {
    throw new ApiError(410, 'events-dropped', {
      message: `not all events after ${text} are kept: the oldest entry of the log is ${entryOf(first)}`,
      hint: `begin with after=${entryOf(first)}`,
    });
  }
  const found: LoggedEvent[] = [];
  for await (const event of readEventsAfter(store, { after, to: '+' }, [])) {
    if (found.push(event) >= limit) break;
  }
  return found;
}

/** `TASK_RUNNING,TASK_KILLING`, or `running,killing`. */
function statesOf(text: string | undefined): ReadonlySet<TaskState> | undefined {
  if (text === undefined) return undefined;
  return new Set(
    text.split(',').map((word) => {
      const name = word.trim().toUpperCase().replaceAll(' ', '_');
      const state = TaskState.safeParse(name.startsWith('TASK_') ? name : `TASK_${name}`);
      if (state.success) return state.data;
      throw badParameter('state', 'not states of tasks: running, or TASK_RUNNING,TASK_KILLING');
    }),
  );
}

function limitOf(text: string | undefined): number {
  if (text === undefined) return LIMIT_DEFAULT;
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= LIMIT_MAX) return limit;
  throw badParameter('limit', `not a whole number from 1 to ${String(LIMIT_MAX)}`);
}

function badParameter(name: string, problem: string): ApiError {
  return new ApiError(400, 'bad-parameter', { message: `parameter ${name} is ${problem}` });
}
