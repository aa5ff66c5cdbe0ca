/**
 * What the agent's shell does for executors, as `agent/executor-host.ts`, `executor-server.ts` and `hosted-tasks.ts` do:
 * their effects come in, events go out, and what a turn says to executors leaves after what it writes into journals.
 */
import type {
  AgentEvent,
  ExecutorMemory,
  ExecutorRef,
  TakenUpdate,
} from '../../agent/core/events.ts';
import type { AgentState, AgentTaskEntry, ExecutorEntry } from '../../agent/core/state.ts';
import type { ExecutorEffect } from '../../agent/executor-host.ts';
import type {
  AgentToExecutor,
  ExecutorMessage,
  ExecutorUpdate,
  LaunchedTask,
} from '../../protocol/executor-messages.ts';
import { executorKey, taskKey } from '../../protocol/ids.ts';
import type { LaunchId, SessionId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Disk } from './disk.ts';
import { SimJournals } from './journals.ts';
import type { AgentSeams } from './mutation.ts';
import type { Network } from './network.ts';
import type { SimSystemd } from './systemd.ts';
import type { Pipe, PipeEnd, SocketFile } from './unix-socket.ts';
import type { Process } from './world.ts';

const JOURNAL_RETRY_MS = 1000;
/** Longest time to make the files of a task. */
const PREPARE_MS = 30;

export interface HostOptions {
  readonly state: AgentState;
  readonly systemd: SimSystemd;
  readonly disk: Disk;
  readonly socket: SocketFile;
  readonly process: Process;
  readonly network: Network;
  readonly seams: AgentSeams;
  /** Perhaps the agent dies now. */
  readonly strike: () => void;
  readonly onEvent: (event: AgentEvent) => void;
}

interface Known {
  readonly pipe: Pipe;
  readonly ref: ExecutorRef;
}

interface Outgoing {
  readonly launchId: LaunchId;
  readonly message: AgentToExecutor;
}

/** The executors of one agent process. */
export class SimExecutorHost {
  readonly #options: HostOptions;
  readonly #journals: SimJournals;
  readonly #known = new Map<LaunchId, Known>();
  #outgoing: Outgoing[] = [];
  #acknowledgements: Outgoing[] = [];
  #isRetrying = false;

  constructor(options: HostOptions) {
    this.#options = options;
    this.#journals = new SimJournals(options);
  }

  listen(): void {
    const { socket, process } = this.#options;
    socket.listen(process, (pipe) => this.#accept(pipe));
  }

  perform(effect: ExecutorEffect): void {
    switch (effect.type) {
      case 'journal.append':
        this.#journals.append(effect.executor, effect.line);
        if (effect.executor.hasEnded) this.#journals.flush();
        return;
      case 'journal.remove':
        this.#journals.remove(effect.executor);
        return;
      case 'executor.send':
        this.#send(effect.executor, effect.message);
        return;
      case 'hosted.give':
        this.#give(effect.executor, effect.entries);
        return;
      case 'hosted.prepare':
        this.#prepare(effect.entry);
        return;
      case 'hosted.close':
      case 'hosted.kill':
        this.#close(effect.entry);
        return;
      case 'container.resize':
        this.#resize(effect.executor, effect.limits);
        return;
      default:
        effect satisfies never;
    }
  }

  /** The end of a turn: what was said in it leaves, after what was to be written. */
  flush(): void {
    const { seams } = this.#options;
    if (seams.writesJournalFirst) this.#journals.flush();
    this.#flushSockets();
    if (!seams.writesJournalFirst) this.#journals.flush();
    if (this.#journals.isFailing()) this.#retryJournals();
  }

  #flushSockets(): void {
    const { process, strike } = this.#options;
    const isWaiting = ({ launchId }: Outgoing): boolean => this.#journals.isFailing(launchId);
    const acknowledgements = this.#acknowledgements.filter((each) => !isWaiting(each));
    this.#acknowledgements = this.#acknowledgements.filter(isWaiting);
    const outgoing = [...this.#outgoing, ...acknowledgements];
    this.#outgoing = [];
    for (const { launchId, message } of outgoing) {
      if (!process.isAlive) return;
      this.#known.get(launchId)?.pipe.toClient(message);
      strike();
    }
  }

  #retryJournals(): void {
    if (this.#isRetrying) return;
    this.#isRetrying = true;
    this.#options.process.after(JOURNAL_RETRY_MS, () => {
      this.#isRetrying = false;
      this.flush();
    });
  }

  // --- the socket --------------------------------------------------------------------------------------------------

  #accept(pipe: Pipe): PipeEnd<ExecutorMessage> {
    let ref: ExecutorRef | undefined;
    return {
      process: this.#options.process,
      line: (message) => {
        if (message.type !== 'RegisterExecutor' && message.type !== 'ReregisterExecutor') {
          if (ref) this.#said(ref, message);
          return;
        }
        ref = this.#introduced(pipe, message);
        if (ref) return;
        const code = 'not-authenticated';
        pipe.toClient({ type: 'ExecutorError', code, message: 'there is no such executor here' });
        pipe.closeByServer();
      },
      closed: () => {
        if (!ref || this.#known.get(ref.launchId)?.pipe !== pipe) return;
        this.#known.delete(ref.launchId);
        this.#options.onEvent({ type: 'executor.disconnected', ...ref });
      },
    };
  }

  #introduced(
    pipe: Pipe,
    message: Extract<ExecutorMessage, { type: 'RegisterExecutor' | 'ReregisterExecutor' }>,
  ): ExecutorRef | undefined {
    const { state, onEvent } = this.#options;
    const key = executorKey(message.frameworkId, message.executorId);
    const executor = state.executors.get(key);
    if (executor?.launchId !== message.token) return undefined;
    const ref = { key, launchId: executor.launchId };
    const before = this.#known.get(ref.launchId);
    this.#known.set(ref.launchId, { pipe, ref });
    before?.pipe.closeByServer();
    const isBack = message.type === 'ReregisterExecutor';
    const memory: ExecutorMemory | undefined = isBack
      ? {
          tasks: message.tasks,
          updates: message.updates.map((update) => this.#taken(executor, update)),
        }
      : undefined;
    onEvent({ type: 'executor.registered', ...ref, ...(memory && { memory }) });
    return ref;
  }

  #said(ref: ExecutorRef, message: ExecutorMessage): void {
    const executor = this.#options.state.executors.get(ref.key);
    if (executor?.launchId !== ref.launchId || message.type !== 'StatusUpdate') return;
    const taken = this.#taken(executor, message.update);
    this.#options.onEvent({ type: 'executor.update', ...ref, taken });
  }

  #taken(executor: ExecutorEntry, update: ExecutorUpdate): TakenUpdate {
    const { exitCode } = update;
    const entry = executor.tasks.get(taskKey(executor.framework.frameworkId, update.taskId));
    if (!isTerminal(update.state) || entry?.launchId !== update.launchId) return { update };
    return { update, certificate: { ...(exitCode !== undefined && { exitCode }) } };
  }

  #send({ launchId }: ExecutorEntry, message: AgentToExecutor): void {
    const isLater = message.type === 'StatusUpdateAcknowledgement';
    (isLater ? this.#acknowledgements : this.#outgoing).push({ launchId, message });
  }

  // --- tasks and containers ----------------------------------------------------------------------------------------

  #give(executor: ExecutorEntry, entries: readonly AgentTaskEntry[]): void {
    const tasks = entries.map(({ launchId, task, hosted }): LaunchedTask => {
      const procs = hosted?.cgroupProcs;
      return { launchId, task, ...(procs && { cgroupProcs: [...procs] }) };
    });
    const groupId = entries[0]?.task.groupId;
    if (groupId !== undefined) this.#send(executor, { type: 'RunTaskGroup', groupId, tasks });
    else for (const task of tasks) this.#send(executor, { type: 'RunTask', ...task });
  }

  #prepare(entry: AgentTaskEntry): void {
    const { network, onEvent, process, strike } = this.#options;
    const { world, faults } = network;
    const { key, launchId, hosted } = entry;
    process.after(world.random.next() * PREPARE_MS, () => {
      strike();
      if (!process.isAlive) return;
      if (isTerminal(entry.state)) this.#close(entry);
      else if (world.random.chance(faults.startFailure)) {
        const reason = 'REASON_SANDBOX_FAILED';
        onEvent({ type: 'hosted.failed', key, launchId, reason, message: 'no sandbox' });
      } else {
        const isAlone = hosted?.executor.info.isolation === 'task';
        const group = isAlone && { cgroupProcs: ['cgroup.procs'] };
        onEvent({ type: 'hosted.prepared', key, launchId, ...group });
      }
    });
  }

  /** Ends what is in its own cgroup. */
  #close({ hosted, unit, launchId }: AgentTaskEntry): void {
    if (hosted?.executor.info.isolation !== 'task') return;
    this.#options.systemd.closeTaskGroup(unit, launchId);
  }

  /** Other limits for the own cgroup of a task. */
  resizeTask(
    { key, launchId, task }: AgentTaskEntry,
    resizeId: SessionId,
    limits: Resources,
  ): void {
    const { network, process, strike, onEvent } = this.#options;
    const { random } = network.world;
    const isDone = !random.chance(network.faults.resizeFailure);
    process.after(random.next() * PREPARE_MS, () => {
      strike();
      const ref = { key, launchId, resizeId };
      if (!process.isAlive) return;
      if (isDone) onEvent({ type: 'unit.resized', ...ref, limits });
      else onEvent({ type: 'unit.resized', ...ref, limits: task.resources, error: 'it failed' });
    });
  }

  #resize({ key, launchId, unit }: ExecutorEntry, limits: Resources): void {
    const { systemd, process, strike, onEvent } = this.#options;
    systemd.resizeUnit(unit, limits, (inForce) => {
      process.run(() => {
        strike();
        if (!process.isAlive) return;
        if (inForce) onEvent({ type: 'container.resized', key, launchId, limits: inForce });
        else onEvent({ type: 'container.resize-failed', key, launchId, message: 'it failed' });
      });
    });
  }
}
