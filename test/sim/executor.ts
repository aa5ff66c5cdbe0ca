/**
 * A simulated executor: the process in an executor's unit. What it owes and has been given is in the ledger of production;
 * around that it does what `executor/executor-driver.ts` does, and its tasks are random. It may be slow, mute, deaf for
 * kills, leave when it has nothing to do, and die at any moment.
 */
import type { Ledger } from '../../executor/core/ledger.ts';
import {
  acknowledge,
  createLedger,
  isLive,
  rememberOn,
  takeLaunch,
  takeUpdate,
  unsaidOn,
} from '../../executor/core/ledger.ts';
import { PAUSE_MAX_MS, reconnectPauseMs } from '../../executor/core/reconnect.ts';
import type {
  AgentToExecutor,
  ExecutorMessage,
  ExecutorTaskState,
  LaunchedTask,
} from '../../protocol/executor-messages.ts';
import type { LaunchId, TaskGroupId } from '../../protocol/ids.ts';
import type { Faults } from './faults.ts';
import type { Ender, Program, SimEnd, SimUnitSpec } from './systemd.ts';
import type { Timing } from './timing.ts';
import type { Pipe, SocketFile } from './unix-socket.ts';
import type { World } from './world.ts';
import { Process } from './world.ts';

const SIGKILL = 9;
const SIGTERM = 15;
const FOREVER_SHARE = 0.1;
/** How long it waits for acknowledgements when it stops. */
const STOP_MS = 5000;

/** Told of each executor, as one sees it who looks over its shoulder. */
export interface ExecutorObserver {
  /** It has said who it is. */
  executorSpoke(node: string, spec: SimUnitSpec): void;
  /** Its agent hands tasks over to it; `isRegistered`: it has answered on this connection before. */
  tasksGiven(node: string, spec: SimUnitSpec, gift: Gift): void;
  hostedStarted(node: string, spec: SimUnitSpec, launched: LaunchedTask): void;
  hostedEnded(node: string, launchId: LaunchId, end: SimEnd | 'killed', ender: Ender): void;
  /** Its agent has taken over to tell that end. */
  endAcknowledged(launchId: LaunchId, state: ExecutorTaskState): void;
}

/** Tasks that come in one message. */
export interface Gift {
  readonly tasks: readonly LaunchedTask[];
  readonly groupId: TaskGroupId | undefined;
  readonly isRegistered: boolean;
}

export interface ExecutorOptions {
  readonly world: World;
  readonly faults: Faults;
  readonly timing: Timing;
  readonly node: string;
  readonly spec: SimUnitSpec;
  readonly socket: SocketFile;
  readonly observer: ExecutorObserver;
  /** It ends by itself. */
  readonly exit: (end: SimEnd) => void;
}

/** How the end of a task is reported, and what of it is true. */
interface TaskEnd {
  readonly state: ExecutorTaskState;
  readonly end: SimEnd | 'killed';
}

export class SimExecutor implements Program {
  readonly process: Process;
  readonly #options: ExecutorOptions;
  readonly #ledger: Ledger = createLedger();
  /** Tasks that run. */
  readonly #running = new Map<LaunchId, LaunchedTask>();
  readonly #ignoresKills: boolean;
  readonly #ignoresShutdown: boolean;
  /** It leaves after so long without a task. */
  readonly #leavesAfterMs: number;
  #pipe: Pipe | undefined;
  #connection = 0;
  #openedAtMs = 0;
  #failures = 0;
  #isRegistered = false;
  #hasRegistered = false;
  #isStopping = false;
  #idleTurn = 0;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    const { world, faults, timing, spec, node } = options;
    const { random } = world;
    this.process = new Process(world, `${node}.${spec.launchId}`);
    this.#ignoresKills = random.chance(0.1);
    this.#ignoresShutdown = random.chance(0.1);
    this.#leavesAfterMs = random.chance(0.2) ? random.exponential(timing.taskMs) : Infinity;
    if (random.chance(faults.muteExecutor)) return;
    this.process.after(random.exponential(random.pick([5, 50, 500])), () => {
      this.#connect();
    });
    this.#noteIdle();
  }

  get #random(): World['random'] {
    return this.#options.world.random;
  }

  // --- what systemd and the kernel do to it ------------------------------------------------------------------------

  kill(): void {
    this.process.kill();
    this.#running.clear();
  }

  killTask(launchId: LaunchId): boolean {
    if (!this.#running.has(launchId)) return false;
    const end: SimEnd = { result: 'success', certificate: { signal: SIGKILL } };
    this.process.run(() => {
      this.#end(
        launchId,
        { state: this.#random.pick(['TASK_FAILED', 'TASK_KILLED']), end },
        'agent',
      );
    });
    return true;
  }

  // --- the connection ----------------------------------------------------------------------------------------------

  #connect(): void {
    const { socket, world } = this.#options;
    const pipe: Pipe | undefined = socket.connect({
      process: this.process,
      line: (message) => {
        if (this.#pipe === pipe) this.#receive(message);
      },
      closed: () => {
        if (this.#pipe === pipe) this.#lost();
      },
    });
    if (!pipe) {
      this.#retry(false);
      return;
    }
    this.#pipe = pipe;
    this.#openedAtMs = world.nowMs;
    this.#connection += 1;
    this.#introduce();
  }

  #introduce(): void {
    const { spec, node, observer } = this.#options;
    const { executor } = spec.task;
    if (!executor) return;
    const introduction = {
      // Of a launch: that is what the file with the token is for.
      token: spec.launchId,
      frameworkId: spec.framework.frameworkId,
      executorId: executor.executorId,
    };
    observer.executorSpoke(node, spec);
    this.#say(
      this.#hasRegistered
        ? {
            type: 'ReregisterExecutor',
            ...introduction,
            ...rememberOn(this.#ledger, this.#connection),
          }
        : { type: 'RegisterExecutor', ...introduction },
    );
  }

  #lost(): void {
    this.#pipe = undefined;
    this.#isRegistered = false;
    this.#log('has lost its agent');
    this.#retry(this.#options.world.nowMs - this.#openedAtMs >= PAUSE_MAX_MS);
  }

  #retry(hasLasted: boolean): void {
    this.#failures = hasLasted ? 1 : this.#failures + 1;
    this.process.after(reconnectPauseMs(this.#failures, this.#random.next()), () => {
      this.#connect();
    });
  }

  #say(message: ExecutorMessage): void {
    this.#log(
      () =>
        `-> ${message.type}${message.type === 'StatusUpdate' ? ` ${message.update.launchId} ${message.update.state}` : ''}`,
    );
    this.#pipe?.toServer(message);
  }

  #receive(message: AgentToExecutor): void {
    this.#log(() => `<- ${describe(message)}`);
    switch (message.type) {
      case 'ExecutorRegistered':
      case 'ExecutorReregistered':
        this.#registered();
        return;
      case 'StatusUpdateAcknowledgement':
        this.#acknowledged(message.updateId);
        return;
      case 'RunTask':
        this.#given([message], undefined);
        return;
      case 'RunTaskGroup':
        this.#given(message.tasks, message.groupId);
        return;
      case 'KillTask':
        this.#killed(message.launchId, message.gracePeriodMs);
        return;
      case 'ShutdownExecutor':
        if (!this.#ignoresShutdown) this.#shutDown(message.gracePeriodMs);
        return;
      case 'ExecutorError':
        this.#refused();
        return;
      case 'FrameworkToExecutor':
        return;
      default:
        message satisfies never;
    }
  }

  #registered(): void {
    this.#isRegistered = true;
    this.#hasRegistered = true;
    for (const update of unsaidOn(this.#ledger, this.#connection)) {
      this.#say({ type: 'StatusUpdate', update });
    }
  }

  /** An agent that has never known it will not know it later. */
  #refused(): void {
    if (!this.#hasRegistered) this.#exit({ result: 'success', certificate: { exitCode: 1 } });
    else {
      this.#pipe?.closeByClient();
      this.#lost();
    }
  }

  #acknowledged(updateId: string): void {
    const owed = this.#ledger.owed.get(updateId)?.update;
    if (owed) this.#options.observer.endAcknowledged(owed.launchId, owed.state);
    acknowledge(this.#ledger, updateId);
    this.#leaveIfDone();
  }

  // --- tasks -------------------------------------------------------------------------------------------------------

  #given(tasks: readonly LaunchedTask[], groupId: TaskGroupId | undefined): void {
    const { node, spec, observer } = this.#options;
    observer.tasksGiven(node, spec, { tasks, groupId, isRegistered: this.#isRegistered });
    if (this.#isStopping) return;
    for (const launched of tasks) {
      if (takeLaunch(this.#ledger, launched)) this.#start(launched);
    }
  }

  #start(launched: LaunchedTask): void {
    const { node, spec, observer, timing } = this.#options;
    const random = this.#random;
    const { launchId } = launched;
    this.#running.set(launchId, launched);
    observer.hostedStarted(node, spec, launched);
    if (random.chance(0.2)) this.#update(launched, 'TASK_STARTING');
    this.process.after(random.next() * 20, () => {
      if (this.#running.has(launchId)) this.#update(launched, 'TASK_RUNNING');
    });
    // Who can neither be killed nor ends would be there for ever.
    if (!this.#ignoresKills && random.chance(FOREVER_SHARE)) return;
    const runMs = Math.min(random.exponential(timing.taskMs), timing.taskMaxMs);
    this.process.after(runMs, () => {
      this.#end(launchId, drawEnd(random), 'itself');
    });
  }

  #killed(launchId: LaunchId, gracePeriodMs: number): void {
    const launched = this.#running.get(launchId);
    if (!launched || !isLive(this.#ledger, launchId) || this.#ignoresKills) return;
    if (this.#random.chance(0.5)) this.#update(launched, 'TASK_KILLING');
    this.#endKilled(launchId, Math.min(gracePeriodMs, 500));
  }

  #endKilled(launchId: LaunchId, withinMs: number): void {
    const end: SimEnd = { result: 'success', certificate: { signal: SIGTERM } };
    this.process.after(this.#random.next() * withinMs, () => {
      this.#end(launchId, { state: 'TASK_KILLED', end }, 'agent');
    });
  }

  #end(launchId: LaunchId, { state, end }: TaskEnd, ender: Ender): void {
    const { node, observer } = this.#options;
    const launched = this.#running.get(launchId);
    if (!launched) return;
    this.#running.delete(launchId);
    observer.hostedEnded(node, launchId, end, ender);
    this.#update(launched, state);
    this.#noteIdle();
    this.#leaveIfDone();
  }

  #update({ launchId, task }: LaunchedTask, state: ExecutorTaskState): void {
    const saidOn = this.#isRegistered ? this.#connection : 0;
    const taken = takeUpdate(this.#ledger, { taskId: task.taskId, launchId, state }, saidOn);
    if (!taken.ok) throw new Error(`the executor may not say ${state}: ${taken.message}`);
    if (taken.update && this.#isRegistered)
      this.#say({ type: 'StatusUpdate', update: taken.update });
  }

  // --- its end -----------------------------------------------------------------------------------------------------

  #noteIdle(): void {
    if (this.#leavesAfterMs === Infinity) return;
    this.#idleTurn += 1;
    const turn = this.#idleTurn;
    this.process.after(this.#leavesAfterMs, () => {
      if (turn !== this.#idleTurn || this.#running.size > 0) return;
      this.#log('leaves, for it has nothing to do');
      this.#stop();
    });
  }

  #shutDown(gracePeriodMs: number): void {
    if (this.#isStopping) return;
    for (const launchId of [...this.#running.keys()])
      this.#endKilled(launchId, Math.min(gracePeriodMs, 500));
    this.#stop();
  }

  /** Takes nothing more, and goes when all is told. */
  #stop(): void {
    this.#isStopping = true;
    this.process.after(STOP_MS, () => {
      this.#exit({ result: 'success', certificate: { exitCode: 0 } });
    });
    this.#leaveIfDone();
  }

  #leaveIfDone(): void {
    if (!this.#isStopping || this.#running.size > 0 || this.#ledger.owed.size > 0) return;
    this.#exit({ result: 'success', certificate: { exitCode: 0 } });
  }

  #exit(end: SimEnd): void {
    if (this.process.isAlive) this.#options.exit(end);
  }

  #log(what: string | (() => string)): void {
    this.#options.world.log(this.process.name, what);
  }
}

function drawEnd(random: World['random']): TaskEnd {
  const exited = (exitCode: number): SimEnd => ({ result: 'success', certificate: { exitCode } });
  return random.pick<TaskEnd>([
    { state: 'TASK_FINISHED', end: exited(0) },
    { state: 'TASK_FINISHED', end: exited(0) },
    { state: 'TASK_FAILED', end: exited(random.int(1, 255)) },
    { state: 'TASK_FAILED', end: { result: 'success', certificate: { signal: 11 } } },
    { state: 'TASK_ERROR', end: exited(1) },
  ]);
}

function describe(message: AgentToExecutor): string {
  switch (message.type) {
    case 'RunTask':
    case 'KillTask':
      return `${message.type} ${message.launchId}`;
    case 'RunTaskGroup':
      return `${message.type} ${message.tasks.map(({ launchId }) => launchId).join(',')}`;
    case 'StatusUpdateAcknowledgement':
      return `${message.type} ${message.launchId} ${message.updateId}`;
    default:
      return message.type;
  }
}
