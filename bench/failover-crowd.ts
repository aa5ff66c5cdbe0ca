/**
 * Ten thousand agents in one process for the failover benchmark: each with the mailbox of a real agent and its rules,
 * heartbeats and retries; many share a connection. And a framework that gives each of them tasks that go on for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../io/clock.ts';
import { silentLog } from '../io/log.ts';
import { Mailbox } from '../io/mailbox.ts';
import { connectRedis } from '../io/redis-connection.ts';
import { RedisStore } from '../io/redis-store.ts';
import type { StreamEntry, StreamId } from '../io/store.ts';
import type { AgentId, FrameworkId, LaunchId, SessionId, TaskId } from '../protocol/ids.ts';
import type { ClientName } from '../protocol/keys.ts';
import { agentName, frameworkName } from '../protocol/keys.ts';
import type { Message, MessageOf } from '../protocol/messages.ts';
import type { Resources } from '../protocol/resources.ts';
import { scaleResources } from '../protocol/resources.ts';
import type { AgentTask, Offer } from '../protocol/task.ts';
import { FrameworkInfo } from '../protocol/task.ts';

/** Agents that share a connection for calls and one for streams. */
const AGENTS_A_CONNECTION = 200;
/** A reader looks so often for streams that have begun meanwhile, milliseconds. */
const READ_BLOCK_MS = 100;
const READ_COUNT = 1000;
const TASK: Resources = { cpuMillis: 100, memMib: 64 };
const FRAMEWORK = FrameworkInfo.parse({ frameworkId: 'crowd' as FrameworkId, name: 'crowd' });

/** What the process is told. */
export interface CrowdPart {
  readonly url: string;
  readonly cluster: string;
  readonly agents: number;
  /** Tasks that fit on one agent. */
  readonly slots: number;
}

/** `launch`: as many tasks as fit, everywhere. `look` is answered with what has happened since `sinceMs`. */
export type CrowdCommand =
  { readonly type: 'launch' } | { readonly type: 'look'; readonly sinceMs: number };

/** How far the crowd is. */
export interface CrowdAccount {
  /** Agents that have heard since then that they are registered, and the time of the last one (since 1970). */
  readonly registered: number;
  readonly lastRegisteredAtMs: number;
  /** Tasks that run, as far as the framework has been told. */
  readonly running: number;
  /** Tasks that did anything else. */
  readonly failed: number;
}

/** Registers the agents and the framework, and obeys the commands that come over the process's channel. */
export async function runCrowd(part: CrowdPart): Promise<void> {
  const { url, cluster } = part;
  const agents: CrowdAgent[] = [];
  let store: SharedStore | undefined;
  for (let index = 0; index < part.agents; index += 1) {
    if (!store || index % AGENTS_A_CONNECTION === 0) {
      store = new SharedStore(url, cluster);
      await store.connect();
    }
    agents.push(new CrowdAgent(store, `a${index + 1}`, scaleResources(TASK, part.slots)));
  }
  const own = new RedisStore({ url, cluster, log: silentLog, name: 'crowd' });
  const framework = new CrowdFramework(own, part);
  process.on('message', (command: CrowdCommand) => {
    if (command.type === 'launch') framework.launch();
    else process.send?.({ ...registrationsOf(agents, command.sinceMs), ...framework.look() });
  });
}

function registrationsOf(
  agents: readonly CrowdAgent[],
  sinceMs: number,
): Pick<CrowdAccount, 'registered' | 'lastRegisteredAtMs'> {
  const times = agents.map(({ registeredAtMs }) => registeredAtMs).filter((at) => at > sinceMs);
  const lastRegisteredAtMs = times.reduce((last, atMs) => Math.max(last, atMs), 0);
  return { registered: times.length, lastRegisteredAtMs };
}

class CrowdAgent {
  registeredAtMs = 0;
  readonly #agentId: AgentId;
  readonly #mailbox: Mailbox;
  readonly #tasks = new Map<LaunchId, AgentTask>();

  constructor(store: SharedStore, name: string, resources: Resources) {
    this.#agentId = name as AgentId;
    const agent = { agentId: this.#agentId, hostname: name, resources, attributes: {} };
    this.#mailbox = new Mailbox({
      store,
      clock: systemClock,
      log: silentLog,
      client: agentName(this.#agentId),
      register: (session) => [
        {
          type: 'RegisterAgent',
          agent,
          session,
          node: name,
          tasks: [...this.#tasks.values()],
          frameworks: this.#tasks.size > 0 ? [{ info: FRAMEWORK, detached: false }] : [],
          executors: [],
          ended: [],
        },
      ],
      onMessages: (messages) => {
        for (const message of messages) this.#receive(message);
      },
      onMoved: () => {
        throw new Error(`another process has registered as ${name}`);
      },
    });
    this.#mailbox.start();
  }

  #receive(message: Message): void {
    if (message.type === 'AgentRegistered') this.registeredAtMs = Date.now();
    else if (message.type === 'RunTask') this.#run(message);
  }

  #run({ framework: { frameworkId }, launchId, task }: MessageOf<'RunTask'>): void {
    const { taskId, name, resources } = task;
    const unit = `kaon-0123abcd-${taskId}-${launchId}.service`;
    const status = {
      frameworkId,
      taskId,
      launchId,
      agentId: this.#agentId,
      updateId: `${launchId}.running` as NonNullable<
        MessageOf<'StatusUpdate'>['status']['updateId']
      >,
      state: 'TASK_RUNNING',
      source: 'SOURCE_AGENT',
      unit,
    } as const;
    const { state } = status;
    this.#tasks.set(launchId, { frameworkId, taskId, launchId, name, resources, state, unit });
    this.#mailbox.send({ type: 'StatusUpdate', status });
  }
}

class CrowdFramework {
  readonly #mailbox: Mailbox;
  readonly #part: CrowdPart;
  readonly #running = new Set<TaskId>();
  #demand = 0;
  #failed = 0;
  #nextTask = 1;

  constructor(store: RedisStore, part: CrowdPart) {
    this.#part = part;
    this.#mailbox = new Mailbox({
      store,
      clock: systemClock,
      log: silentLog,
      client: frameworkName(FRAMEWORK.frameworkId),
      register: (session) => [
        { type: 'RegisterFramework', framework: FRAMEWORK, session },
        this.#request(),
      ],
      onMessages: (messages) => {
        for (const message of messages) this.#receive(message);
      },
      onMoved: () => {
        throw new Error('another process has registered as the framework');
      },
    });
    this.#mailbox.start();
  }

  launch(): void {
    this.#demand = this.#part.agents * this.#part.slots;
    this.#mailbox.send(this.#request());
  }

  look(): Pick<CrowdAccount, 'running' | 'failed'> {
    return { running: this.#running.size, failed: this.#failed };
  }

  #request(): MessageOf<'RequestResources'> {
    const { frameworkId } = FRAMEWORK;
    const requests =
      this.#demand > 0 ? [{ resources: TASK, count: this.#demand, attributes: {} }] : [];
    return { type: 'RequestResources', frameworkId, requests };
  }

  #receive(message: Message): void {
    if (message.type === 'ResourceOffers') for (const offer of message.offers) this.#use(offer);
    else if (message.type === 'StatusUpdate') this.#updated(message);
  }

  #use({ offerId }: Offer): void {
    const count = Math.min(this.#part.slots, this.#demand);
    const environment = { LANG: 'C.UTF-8', HOME: '/nonexistent', QUEUE: 'images', ATTEMPT: '1' };
    const command = { argv: ['/usr/bin/convert', '--in', '/srv/in.png', '--size', '640x480'] };
    this.#demand -= count;
    this.#mailbox.send({
      type: 'LaunchTasks',
      frameworkId: FRAMEWORK.frameworkId,
      offerIds: [offerId],
      tasks: Array.from({ length: count }, () => ({
        taskId: `t${this.#nextTask++}`,
        name: 'convert',
        resources: TASK,
        command: { ...command, environment },
        labels: { team: 'web', ticket: 'none' },
      })),
    });
    if (this.#demand === 0) this.#mailbox.send(this.#request());
  }

  #updated({ status: { taskId, updateId, state } }: MessageOf<'StatusUpdate'>): void {
    if (updateId !== undefined) {
      const { frameworkId } = FRAMEWORK;
      this.#mailbox.send({ type: 'StatusUpdateAcknowledgement', frameworkId, taskId, updateId });
    }
    if (state === 'TASK_RUNNING') this.#running.add(taskId);
    else this.#failed += 1;
  }
}

/** A store for many clients: their streams are read together. */
class SharedStore extends RedisStore {
  readonly #streams: StreamsReader;

  constructor(url: string, cluster: string) {
    super({ url, cluster, log: silentLog, name: 'crowd' });
    this.#streams = new StreamsReader(url);
  }

  override readClient(
    client: ClientName,
    session: SessionId,
    cursor: StreamId,
    blockMs: number,
  ): Promise<StreamEntry[]> {
    return this.#streams.read(this.keys.client(client, session), cursor, blockMs);
  }
}

interface WaitingRead {
  readonly cursor: StreamId;
  readonly untilMs: number;
  readonly resolve: (entries: StreamEntry[]) => void;
}

/** One connection that reads the streams of many clients. */
class StreamsReader {
  readonly #waiting = new Map<string, WaitingRead>();
  readonly #redis: ReturnType<typeof connectRedis>;

  constructor(url: string) {
    this.#redis = connectRedis({ url, log: silentLog, name: 'crowd-streams' });
    void this.#readForEver();
  }

  read(key: string, cursor: StreamId, blockMs: number): Promise<StreamEntry[]> {
    return new Promise((resolve) => {
      this.#waiting.set(key, { cursor, untilMs: performance.now() + blockMs, resolve });
    });
  }

  async #readForEver(): Promise<void> {
    for (;;) {
      if (this.#waiting.size === 0) await sleep(READ_BLOCK_MS / 10);
      else await this.#readOnce();
    }
  }

  async #readOnce(): Promise<void> {
    const keys = [...this.#waiting.keys()];
    const cursors = [...this.#waiting.values()].map(({ cursor }) => cursor);
    const block = ['COUNT', READ_COUNT, 'BLOCK', READ_BLOCK_MS];
    const reply = await this.#redis.call('XREAD', ...block, 'STREAMS', ...keys, ...cursors);
    const streams = (reply ?? []) as [string, [StreamId, string[]][]][];
    for (const [key, entries] of streams) {
      this.#answer(
        key,
        entries.map(([id, fields]) => ({ id, messages: fields[1] ?? '' })),
      );
    }
    const nowMs = performance.now();
    for (const [key, { untilMs }] of this.#waiting) if (nowMs >= untilMs) this.#answer(key, []);
  }

  #answer(key: string, entries: StreamEntry[]): void {
    this.#waiting.get(key)?.resolve(entries);
    this.#waiting.delete(key);
  }
}
