/**
 * What the agent's shell does for executors: what they and their tasks are given, what they say, how their container
 * changes. Decides nothing: the core's effects come in, events go out. Everything of one turn is first in the journals and
 * then on its way.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { Store } from '../io/store.ts';
import { encodeEntries } from '../protocol/codec.ts';
import { messageOf } from '../protocol/errors.ts';
import type { AgentToExecutor } from '../protocol/executor-messages.ts';
import type { LaunchId } from '../protocol/ids.ts';
import { executorKey } from '../protocol/ids.ts';
import type { Resources } from '../protocol/resources.ts';
import type { Systemd } from '../systemd/port.ts';
import type { SandboxPolicy } from './sandboxing.ts';
import type { Fetcher } from './artifacts/index.ts';
import type { AgentEffect, AgentEvent, ExecutorMemory, ExecutorRef } from './core/events.ts';
import type { AgentState, AgentTaskEntry, ExecutorEntry } from './core/state.ts';
import { frameworkSlice } from './core/unit-names.ts';
import type { ExecutorIntroduction } from './executor-introduction.ts';
import type { ExecutorJournals } from './executor-journal.ts';
import type { KnownMessage } from './executor-server.ts';
import { ExecutorServer } from './executor-server.ts';
import { HostedTasks } from './hosted-tasks.ts';
import { sandboxPath } from './sandbox.ts';

/** Pause before a journal that could not be written is tried again, milliseconds. */
const JOURNAL_RETRY_MS = 1000;
/** Framework messages on their way to Redis; what comes beyond that is dropped, as best effort allows. */
const MESSAGES_IN_FLIGHT_MAX = 1000;

/** Effects that are about executors and their tasks. */
export type ExecutorEffect = Extract<
  AgentEffect,
  {
    type:
      | 'journal.append'
      | 'journal.remove'
      | 'executor.send'
      | 'hosted.give'
      | 'hosted.prepare'
      | 'hosted.close'
      | 'hosted.kill'
      | 'container.resize';
  }
>;

/** What it works with. */
export interface ExecutorHostOptions {
  readonly state: AgentState;
  readonly systemd: Systemd;
  readonly store: Store;
  readonly journals: ExecutorJournals;
  readonly introduction: ExecutorIntroduction;
  readonly policy: SandboxPolicy;
  readonly fetcher: Fetcher;
  readonly clock: Clock;
  readonly log: Log;
  readonly directory: string;
  readonly socketPath: string;
  readonly tell: (event: AgentEvent) => void;
}

/** The executors of one agent, from `listen` to `close`. */
export class ExecutorHost {
  readonly #options: ExecutorHostOptions;
  readonly #server: ExecutorServer;
  readonly #tasks: HostedTasks;
  readonly #stop = new AbortController();
  /** What is to be acknowledged once it is in a journal. */
  #acknowledgements: { readonly launchId: LaunchId; readonly message: AgentToExecutor }[] = [];
  #isFlushing = false;
  #isRetrying = false;
  #messagesInFlight = 0;

  constructor(options: ExecutorHostOptions) {
    this.#options = options;
    this.#tasks = new HostedTasks(options);
    const { socketPath: path, clock, log, tell } = options;
    this.#server = new ExecutorServer({
      ...{ path, clock, log },
      authenticate: (introduction) => this.#authenticate(introduction),
      onRegistered: ({ key, launchId }, introduction) => {
        const isBack = introduction.type === 'ReregisterExecutor';
        log.info('executor.registered', { key, launchId, isBack });
        tell({
          ...{ type: 'executor.registered', key, launchId },
          ...(isBack && { memory: this.#memoryOf({ key, launchId }, introduction) }),
        });
      },
      onMessage: (executor, message) => {
        this.#onMessage(executor, message);
      },
      onDisconnected: ({ key, launchId }) => {
        log.info('executor.disconnected', { key, launchId });
        tell({ type: 'executor.disconnected', key, launchId });
      },
    });
  }

  /** @throws KaonError `executor-socket` */
  listen(): Promise<void> {
    return this.#server.listen();
  }

  /** Executors run on. */
  close(): void {
    this.#stop.abort();
    this.#tasks.stop();
    this.#options.journals.close();
    this.#server.close();
  }

  perform(effect: ExecutorEffect): void {
    switch (effect.type) {
      case 'journal.append':
        this.#options.journals.append(effect.executor, effect.line);
        // Its checkpoint goes in this turn, and then the journal is all that is left of it.
        if (effect.executor.hasEnded) this.#options.journals.flush();
        this.#flushSoon();
        return;
      case 'journal.remove':
        this.#options.journals.remove(effect.executor);
        return;
      case 'executor.send':
        this.#send(effect.executor, effect.message);
        return;
      case 'hosted.give':
        this.#give(effect.executor, effect.entries);
        return;
      case 'hosted.prepare':
        void this.#tasks.prepare(effect.entry);
        return;
      case 'hosted.close':
        void this.#tasks.close(effect.entry);
        return;
      case 'hosted.kill':
        this.#tasks.kill(effect.entry);
        return;
      case 'container.resize':
        void this.#resize(effect.executor, effect.limits);
        return;
      default:
        effect satisfies never;
    }
  }

  /** Gives a task's own cgroup other limits. @returns those in force. @throws Error that says why it could not */
  resizeTask(entry: AgentTaskEntry, limits: Resources): Promise<Resources> {
    return this.#tasks.resize(entry, limits);
  }

  #send({ launchId }: ExecutorEntry, message: AgentToExecutor): void {
    if (message.type === 'StatusUpdateAcknowledgement') {
      this.#acknowledgements.push({ launchId, message });
    } else this.#server.send(launchId, message);
    this.#flushSoon();
  }

  /** At the end of this turn: before the mailbox sends what was queued after it. */
  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(() => {
      this.#isFlushing = false;
      if (!this.#stop.signal.aborted) this.#flush();
    });
  }

  #flush(): void {
    const { journals } = this.#options;
    journals.flush();
    // What is not on disk is still the executor's to remember.
    const isWaiting = ({ launchId }: { launchId: LaunchId }): boolean =>
      journals.isFailing(launchId);
    for (const acknowledgement of this.#acknowledgements) {
      if (!isWaiting(acknowledgement)) {
        this.#server.send(acknowledgement.launchId, acknowledgement.message);
      }
    }
    this.#acknowledgements = this.#acknowledgements.filter(isWaiting);
    this.#server.flush();
    if (journals.isFailing()) void this.#retryJournals();
  }

  async #retryJournals(): Promise<void> {
    if (this.#isRetrying) return;
    this.#isRetrying = true;
    await this.#options.clock.sleep(JOURNAL_RETRY_MS, this.#stop.signal);
    this.#isRetrying = false;
    if (!this.#stop.signal.aborted) this.#flush();
  }

  #authenticate(introduction: {
    readonly token: string;
    readonly frameworkId: ExecutorEntry['framework']['frameworkId'];
    readonly executorId: ExecutorEntry['info']['executorId'];
  }): ExecutorRef | undefined {
    const { state, introduction: tokens } = this.#options;
    const key = executorKey(introduction.frameworkId, introduction.executorId);
    const executor = state.executors.get(key);
    if (!executor || !tokens.isToken(this.#sandboxOf(executor), introduction.token))
      return undefined;
    return { key, launchId: executor.launchId };
  }

  #memoryOf(
    { key, launchId }: ExecutorRef,
    { tasks, updates }: Extract<Introduced, { type: 'ReregisterExecutor' }>,
  ): ExecutorMemory {
    const executor = this.#options.state.executors.get(key);
    return {
      tasks,
      updates: updates.map((update) => {
        const isOurs = executor?.launchId === launchId;
        const certificate = isOurs ? this.#tasks.certificateOf(executor, update) : undefined;
        return { update, ...(certificate && { certificate }) };
      }),
    };
  }

  #onMessage({ key, launchId }: ExecutorRef, message: KnownMessage): void {
    const executor = this.#options.state.executors.get(key);
    if (executor?.launchId !== launchId) return;
    if (message.type === 'ExecutorToFramework') {
      this.#toFramework(executor, message.data);
      return;
    }
    const { update } = message;
    const certificate = this.#tasks.certificateOf(executor, update);
    const taken = { update, ...(certificate && { certificate }) };
    this.#options.tell({ type: 'executor.update', key, launchId, taken });
  }

  /** Best effort (rule L5): what cannot be delivered now is dropped. */
  #toFramework({ framework, info }: ExecutorEntry, data: string): void {
    const { store, state, log } = this.#options;
    const { frameworkId } = framework;
    const { executorId } = info;
    if (this.#messagesInFlight >= MESSAGES_IN_FLIGHT_MAX) return;
    this.#messagesInFlight += 1;
    const { agentId } = state;
    const [entry = '[]'] = encodeEntries([
      { type: 'ExecutorToFramework', frameworkId, agentId, executorId, data },
    ]);
    store
      .sendToFramework(frameworkId, entry)
      .then((result) => {
        if (result !== 'sent') log.debug('framework-message.dropped', { frameworkId, result });
      })
      .catch((error: unknown) => {
        log.debug('framework-message.dropped', { frameworkId, error: messageOf(error) });
      })
      .finally(() => {
        this.#messagesInFlight -= 1;
      });
  }

  #give(executor: ExecutorEntry, entries: readonly AgentTaskEntry[]): void {
    const [first] = entries;
    const tasks = entries.map((entry) => this.#tasks.launched(entry));
    const groupId = first?.task.groupId;
    if (groupId !== undefined) this.#send(executor, { type: 'RunTaskGroup', groupId, tasks });
    else for (const task of tasks) this.#send(executor, { type: 'RunTask', ...task });
  }

  async #resize(executor: ExecutorEntry, limits: Resources): Promise<void> {
    const { systemd, tell, log } = this.#options;
    const { key, launchId, unit } = executor;
    const { cpuMillis, memMib: memoryMib } = limits;
    try {
      const result = await systemd.resizeUnit(this.#sliceOf(executor), unit, {
        ...{ cpuMillis, memoryMib },
      });
      if (!result.ok) throw new Error(result.message);
      log.debug('container.resized', { unit, cpuMillis, memoryMib, inForceMib: result.memoryMib });
      tell({
        ...{ type: 'container.resized', key, launchId },
        limits: { cpuMillis, memMib: result.memoryMib },
      });
    } catch (error) {
      const message = messageOf(error);
      log.warn('container.resize-failed', { unit, cpuMillis, memoryMib, error: message });
      tell({ type: 'container.resize-failed', key, launchId, message });
    }
  }

  #sliceOf({ framework }: ExecutorEntry): string {
    return frameworkSlice(this.#options.state.agentTag, framework.frameworkId);
  }

  #sandboxOf({ framework, task, launchId }: AgentTaskEntry | ExecutorEntry): string {
    const { frameworkId } = framework;
    return sandboxPath(this.#options.directory, { frameworkId, taskId: task.taskId, launchId });
  }
}

type Introduced = Parameters<ConstructorParameters<typeof ExecutorServer>[0]['onRegistered']>[1];
