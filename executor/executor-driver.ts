/**
 * The driver between an executor and the agent of its node. Calls return at once and travel in order; callbacks come one
 * at a time. The names are those of the classic two-level scheduling API; docs/executors.md has the messages.
 */
import type { ExecutorMessage } from '../protocol/executor-messages.ts';
import type { AgentToExecutor, LaunchedTask } from '../protocol/executor-messages.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { ExecutorId, FrameworkId } from '../protocol/ids.ts';
import { DATA_MAX_CHARS } from '../protocol/limits.ts';
import { AgentConnection } from './agent-connection.ts';
import type { Callback } from './callback-queue.ts';
import { CallbackQueue } from './callback-queue.ts';
import { readLine } from './core/agent-message.ts';
import {
  acknowledge,
  createLedger,
  isLive,
  rememberOn,
  takeLaunch,
  takeUpdate,
  unsaidOn,
} from './core/ledger.ts';
import type { UpdateDescription } from './core/update.ts';
import { readToken, resolveOptions } from './driver-options.ts';
import type { ExecutorDriverOptions, ResolvedOptions } from './driver-options.ts';
import type { Executor } from './executor.ts';

/** Where a driver is in its life; it never goes back to an earlier one. `ABORTED` may still become `STOPPED`. */
export type DriverStatus =
  'DRIVER_NOT_STARTED' | 'DRIVER_RUNNING' | 'DRIVER_ABORTED' | 'DRIVER_STOPPED';

/** Code of the error of an agent that has waited for a registration: this process was not given the time to send it. */
const TOO_SLOW = 'no-registration';

type MessageOf<T extends AgentToExecutor['type']> = Extract<AgentToExecutor, { type: T }>;

/** One executor's connection to its agent: `start`, calls, callbacks of its executor, then `stop`. */
export class ExecutorDriver {
  readonly #executor: Executor;
  readonly #options: ResolvedOptions;
  readonly #ledger = createLedger();
  readonly #callbacks: CallbackQueue;
  #status: DriverStatus = 'DRIVER_NOT_STARTED';
  #connection: AgentConnection | undefined;
  #token = '';
  /** The connection that is there, 0 for none. */
  #connectionNumber = 0;
  /** The agent has answered on this connection. */
  #isRegistered = false;
  /** The agent has answered this driver before. */
  #hasRegistered = false;
  #isShuttingDown = false;
  /** Somebody waits until nothing is owed. */
  #settled: (() => void) | undefined;
  readonly #ended: Promise<DriverStatus>;
  #end: (status: DriverStatus) => void = () => undefined;

  /** @throws KaonError `not-started-by-agent` if neither options nor environment say where the agent is */
  constructor(executor: Executor, options: ExecutorDriverOptions = {}) {
    this.#executor = executor;
    this.#options = resolveOptions(options, process.env);
    this.#callbacks = new CallbackQueue((error) => {
      this.#fail(`a callback of the executor failed: ${messageOf(error)}`);
    });
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get status(): DriverStatus {
    return this.#status;
  }

  /**
   * Begins to register with the agent, and goes on until it has (steps E5 to E7: docs/executors.md).
   *
   * @throws KaonError `executor-token`
   */
  async start(): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_NOT_STARTED') return this.#status;
    this.#token = readToken(this.#options.tokenFile);
    this.#status = 'DRIVER_RUNNING';
    const { socketPath, log } = this.#options;
    this.#connection = new AgentConnection({
      socketPath,
      log,
      listener: {
        opened: (number) => {
          this.#introduce(number);
        },
        line: (line) => {
          this.#receive(line);
        },
        lost: () => {
          this.#lost();
        },
      },
    });
    this.#connection.open();
    return this.#status;
  }

  /**
   * Ends the driver: no callback comes any more. What has been reported is told to the agent until it has acknowledged it,
   * at most for `stopTimeoutMs`; then the connection is closed, and `join` resolves.
   */
  async stop(): Promise<DriverStatus> {
    switch (this.#status) {
      case 'DRIVER_RUNNING':
        this.#status = 'DRIVER_STOPPED';
        this.#callbacks.close();
        await this.#untilSettled();
        this.#close('DRIVER_STOPPED');
        break;
      case 'DRIVER_ABORTED':
        // Not waited for: it may be the callback that tells of it which calls this.
        this.#status = 'DRIVER_STOPPED';
        break;
      case 'DRIVER_STOPPED':
        await this.#ended;
        break;
      case 'DRIVER_NOT_STARTED':
        break;
      default:
        this.#status satisfies never;
    }
    return this.#status;
  }

  /** No callback comes any more, tasks go on; `stop` may follow. `join` tells aborted from stopped. */
  async abort(): Promise<DriverStatus> {
    if (this.#status !== 'DRIVER_RUNNING') return this.#status;
    this.#status = 'DRIVER_ABORTED';
    this.#callbacks.close();
    this.#close('DRIVER_ABORTED');
    return this.#status;
  }

  /** Resolves when the driver has stopped or was aborted, with that status. */
  async join(): Promise<DriverStatus> {
    return this.#status === 'DRIVER_NOT_STARTED' ? this.#status : this.#ended;
  }

  /** `start` and `join`. */
  async run(): Promise<DriverStatus> {
    await this.start();
    return this.join();
  }

  /**
   * Reports a task's state. It is kept, and said again on each new connection, until the agent has acknowledged it. What is
   * said of a task after its end is ignored. A state that an executor may not report aborts the driver (rule L6).
   *
   * @throws KaonError `unknown-task` for a task that was not launched here; `update-invalid`, with the field
   */
  sendStatusUpdate(description: UpdateDescription): void {
    if (this.#status !== 'DRIVER_RUNNING') return;
    const saidOn = this.#isRegistered ? this.#connectionNumber : 0;
    const taken = takeUpdate(this.#ledger, description, saidOn);
    if (taken.ok) {
      const { update } = taken;
      if (update && this.#isRegistered) this.#say({ type: 'StatusUpdate', update });
    } else if (taken.code === 'state-not-allowed') this.#fail(taken.message);
    else throw new KaonError(taken.code, taken.message);
  }

  /**
   * Sends data to the framework's scheduler, best effort: while there is no agent it is dropped (rule L5).
   *
   * @throws KaonError `data-too-large` beyond 64 Ki characters
   */
  sendFrameworkMessage(data: string): void {
    if (data.length > DATA_MAX_CHARS) {
      throw new KaonError(
        'data-too-large',
        `a message to the framework has ${String(data.length)} characters, at most ${String(DATA_MAX_CHARS)} are allowed`,
      );
    }
    if (this.#status !== 'DRIVER_RUNNING' || !this.#isRegistered) return;
    this.#say({ type: 'ExecutorToFramework', data });
  }

  #say(message: ExecutorMessage): void {
    this.#connection?.send(JSON.stringify(message));
  }

  /** Step E5. Until the agent has answered once it knows nothing that could be taken up again. */
  #introduce(connectionNumber: number): void {
    this.#connectionNumber = connectionNumber;
    const introduction = {
      token: this.#token,
      // As the agent has named them.
      frameworkId: this.#options.frameworkId as FrameworkId,
      executorId: this.#options.executorId as ExecutorId,
    };
    this.#say(
      this.#hasRegistered
        ? {
            type: 'ReregisterExecutor',
            ...introduction,
            ...rememberOn(this.#ledger, connectionNumber),
          }
        : { type: 'RegisterExecutor', ...introduction },
    );
  }

  #lost(): void {
    this.#connectionNumber = 0;
    if (!this.#isRegistered) return;
    this.#isRegistered = false;
    this.#options.log.warn('agent.disconnected');
    this.#call(() => this.#executor.disconnected?.(this));
  }

  #receive(line: string): void {
    const read = readLine(line);
    if (!read.ok) {
      this.#options.log.warn('message.ignored', { problem: read.problem });
      return;
    }
    const { message } = read;
    switch (message.type) {
      case 'ExecutorRegistered':
      case 'ExecutorReregistered':
        this.#registered(message);
        return;
      case 'StatusUpdateAcknowledgement':
        acknowledge(this.#ledger, message.updateId);
        if (this.#ledger.owed.size === 0) this.#settled?.();
        return;
      case 'ExecutorError':
        this.#refused(message);
        return;
      default:
        // A task that comes while the driver stops is not taken: it must not be known at the next registration.
        if (this.#status === 'DRIVER_RUNNING') this.#dispatch(message);
    }
  }

  #dispatch(
    message: MessageOf<
      'RunTask' | 'RunTaskGroup' | 'KillTask' | 'FrameworkToExecutor' | 'ShutdownExecutor'
    >,
  ): void {
    const executor = this.#executor;
    switch (message.type) {
      case 'RunTask':
        this.#launch([message]);
        return;
      case 'RunTaskGroup':
        this.#launchGroup(message);
        return;
      case 'KillTask': {
        const { taskId, launchId, gracePeriodMs } = message;
        // The end of a launch crosses its kill, and the same task may have been launched again.
        if (!isLive(this.#ledger, launchId)) return;
        this.#call(() => executor.killTask(this, taskId, gracePeriodMs));
        return;
      }
      case 'FrameworkToExecutor':
        this.#call(() => executor.frameworkMessage?.(this, message.data));
        return;
      case 'ShutdownExecutor':
        this.#shutdown(message.gracePeriodMs);
        return;
      default:
        message satisfies never;
    }
  }

  #registered(message: MessageOf<'ExecutorRegistered' | 'ExecutorReregistered'>): void {
    const executor = this.#executor;
    const isFirst = !this.#hasRegistered;
    this.#isRegistered = true;
    this.#hasRegistered = true;
    this.#options.log.info('agent.registered', { agentId: message.agentInfo.agentId });
    for (const update of unsaidOn(this.#ledger, this.#connectionNumber)) {
      this.#say({ type: 'StatusUpdate', update });
    }
    const { agentInfo } = message;
    if (isFirst && message.type === 'ExecutorRegistered') {
      const { executorInfo, frameworkInfo } = message;
      this.#call(() => executor.registered?.(this, executorInfo, frameworkInfo, agentInfo));
    } else this.#call(() => executor.reregistered?.(this, agentInfo));
  }

  /** @returns the launches that are new */
  #take(tasks: readonly LaunchedTask[]): LaunchedTask[] {
    return tasks.filter((launched) => {
      const isNew = takeLaunch(this.#ledger, launched);
      if (!isNew) this.#options.log.debug('launch.repeated', { launchId: launched.launchId });
      return isNew;
    });
  }

  #launch(tasks: readonly LaunchedTask[]): void {
    for (const launched of this.#take(tasks)) {
      this.#call(() => this.#executor.launchTask(this, launched));
    }
  }

  #launchGroup({ groupId, tasks }: MessageOf<'RunTaskGroup'>): void {
    const executor = this.#executor;
    if (!executor.launchTaskGroup) {
      this.#launch(tasks);
      return;
    }
    const group = this.#take(tasks);
    if (group.length > 0)
      this.#call(() => executor.launchTaskGroup?.(this, { groupId, tasks: group }));
  }

  #shutdown(gracePeriodMs: number): void {
    if (this.#isShuttingDown) return;
    this.#isShuttingDown = true;
    this.#call(async () => {
      await this.#executor.shutdown?.(this, gracePeriodMs);
      // Not awaited: it waits for the agent, which is no business of the callback's.
      void this.stop();
    });
  }

  /**
   * An executor that the agent does not know does not become known by asking again. One that has been slow tries again, and of
   * one that has tasks nothing is ended for it: an agent that wants its end says so in another way.
   */
  #refused({ code, message }: MessageOf<'ExecutorError'>): void {
    this.#options.log.error('agent.refused', { code, message });
    if (this.#hasRegistered || code === TOO_SLOW) this.#connection?.reset();
    else this.#fail(`the agent has refused this executor: ${message}`);
  }

  #call(callback: Callback): void {
    this.#callbacks.push(callback);
  }

  #fail(message: string): void {
    if (this.#status !== 'DRIVER_RUNNING') return;
    this.#status = 'DRIVER_ABORTED';
    this.#options.log.error('executor.aborted', { message });
    this.#callbacks.close(async () => {
      try {
        await this.#executor.error?.(this, message);
      } catch (error) {
        this.#options.log.error('executor.error-callback-failed', { error: messageOf(error) });
      }
      this.#close('DRIVER_ABORTED');
    });
  }

  async #untilSettled(): Promise<void> {
    const { stopTimeoutMs, log } = this.#options;
    if (this.#ledger.owed.size === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#settled = resolve;
      timer = setTimeout(resolve, stopTimeoutMs);
    });
    clearTimeout(timer);
    const count = this.#ledger.owed.size;
    if (count > 0) log.error('updates.not-acknowledged', { count, waitedMs: stopTimeoutMs });
  }

  #close(status: DriverStatus): void {
    this.#connection?.close();
    this.#end(status);
  }
}
