/**
 * A simulated node: the production agent core in a shell that does what `agent/agent.ts` does. The node outlives its
 * agents: units, fences, checkpoints and the agent's id stay when an agent dies.
 */
import type { AgentState, ExecutorEntry, UnitEntry } from '../../agent/core/state.ts';
import { createAgentState, isExecutor, isOver, registrationOf } from '../../agent/core/state.ts';
import type { AgentEffect, AgentEvent } from '../../agent/core/events.ts';
import type { AgentId, LaunchId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import { areEqual } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { AgentInfo, LeaderInfo } from '../../protocol/task.ts';
import { SimClient } from './client.ts';
import { describeMessage } from './describe.ts';
import { Disk } from './disk.ts';
import type { ExecutorObserver } from './executor.ts';
import { SimExecutor } from './executor.ts';
import { SimExecutorHost } from './executor-host.ts';
import type { AgentSeams } from './mutation.ts';
import type { Network } from './network.ts';
import type { ExecutorNews } from './recovery.ts';
import { adoptUnknown, recover } from './recovery.ts';
import { SimRunner } from './runner.ts';
import type { ProcessObserver } from './systemd.ts';
import { SimSystemd } from './systemd.ts';
import type { Timing } from './timing.ts';
import { SocketFile } from './unix-socket.ts';
import { Process } from './world.ts';

/** A heartbeat that was answered later than this sets no fence. */
const ANSWER_MAX_MS = 1000;
/** With nothing to kill a tick only drops what is old. */
const IDLE_TICK_MS = 10_000;
/** An agent that was refused or replaced is started again by systemd. */
const RESTART_MS = 1000;

/** What a checker is told of an agent. */
export interface AgentObserver extends ProcessObserver, ExecutorObserver {
  /** The agent takes this master for its leader. */
  leaderSeen(node: string, before: LeaderInfo | undefined, leader: LeaderInfo): void;
  /** It is told that another process has registered as this agent. */
  agentMoved(node: string): void;
  /** The node has nothing on disk of that launch any more, or never had. */
  checkpointLost(launchId: LaunchId): void;
  /** It says what a task has. */
  taskSized(launchId: LaunchId, resources: Resources): void;
  /** The same in a registration: it may be what the task is to have soon. */
  taskReported(launchId: LaunchId, resources: Resources): void;
  /** It gets a wish for other resources. */
  resizeAsked(launchId: LaunchId, resources: Resources): void;
}

export interface NodeOptions {
  readonly network: Network;
  readonly timing: Timing;
  readonly seams: AgentSeams;
  readonly observer: AgentObserver;
  readonly resources: Resources;
}

/** A machine with an agent on it. */
export class SimNode {
  readonly name: string;
  readonly agentId: AgentId;
  readonly systemd: SimSystemd;
  readonly disk: Disk;
  readonly socket: SocketFile;
  readonly resources: Resources;
  bootId = 1;
  agent: SimAgent | undefined;
  /** An agent that is not there is not started again either. */
  isClosed = false;
  readonly #options: NodeOptions;
  #runs = 0;

  constructor(name: string, agentId: string, options: NodeOptions) {
    this.name = name;
    this.agentId = agentId as AgentId;
    this.#options = options;
    this.resources = options.resources;
    const { world, faults } = options.network;
    const { timing, observer } = options;
    this.disk = new Disk(world, observer);
    this.socket = new SocketFile(world);
    const { socket } = this;
    this.systemd = new SimSystemd({
      setsFences: options.seams.setsFences,
      world,
      faults,
      timing: options.timing,
      node: name,
      observer: options.observer,
      onExecuted: (launchId) => this.disk.executed.add(launchId),
      program: (spec, exit) =>
        spec.task.executor &&
        new SimExecutor({ world, faults, timing, node: name, spec, socket, observer, exit }),
    });
    this.start();
  }

  /** The agent dies, and another is started after that time. */
  crashAgent(downMs: number): void {
    if (!this.agent?.process.isAlive) return;
    const { world } = this.#options.network;
    world.log(this.agent.process.name, 'crashes');
    this.agent.process.kill();
    this.systemd.onUnitChanged = () => undefined;
    world.at(downMs, () => {
      if (!this.agent?.process.isAlive) this.start();
    });
  }

  reboot(downMs: number): void {
    const { world } = this.#options.network;
    world.log(this.name, 'reboots');
    this.crashAgent(downMs);
    this.systemd.reboot();
    this.bootId += 1;
  }

  start(): void {
    if (this.isClosed) return;
    const { world, faults } = this.#options.network;
    this.#runs += 1;
    const process = new Process(world, `${this.name}.${this.#runs}`);
    world.log(process.name, 'starts');
    this.agent = new SimAgent(this, process, {
      ...this.#options,
      strike: () => {
        this.#strike(process, faults.agentCrashAtStep);
      },
      strikeAtEffect: () => {
        this.#strike(process, faults.agentCrashAtEffect);
      },
    });
  }

  #strike(process: Process, probability: number): void {
    const { random } = this.#options.network.world;
    if (!random.chance(probability)) return;
    if (process.isAlive) this.crashAgent(random.int(50, 2000));
  }
}

interface AgentOptions extends NodeOptions {
  /** Perhaps the agent dies now. */
  readonly strike: () => void;
  /** The same between two effects of a turn, of which there are many. */
  readonly strikeAtEffect: () => void;
}

/** One process of an agent. */
export class SimAgent {
  readonly process: Process;
  readonly state: AgentState;
  readonly #node: SimNode;
  readonly #options: AgentOptions;
  readonly #client: SimClient;
  readonly #runner: SimRunner;
  readonly #host: SimExecutorHost;
  readonly #fenceSetAtMs = new Map<number, number>();
  #tickAtMs = Infinity;
  isRegistered = false;

  constructor(node: SimNode, process: Process, options: AgentOptions) {
    this.process = process;
    this.#node = node;
    this.#options = options;
    const { agentId, systemd, disk, bootId } = node;
    this.state = createAgentState({ agentId, agentTag: node.name, hostname: node.name });
    if (disk.leaderSeen) this.state.leaderSeen = disk.leaderSeen;
    for (const [id, reservation] of disk.directories) this.state.directories.set(id, reservation);
    this.#client = this.#createClient();
    const { strike, seams } = options;
    const onEvent = (event: AgentEvent): void => {
      this.#step(event);
    };
    this.#runner = new SimRunner({ systemd, disk, bootId, process, strike, onEvent });
    const { step, remembersEnds } = seams;
    const { state } = this;
    const { network, strikeAtEffect } = options;
    const common = { systemd, disk, process, state };
    this.#host = new SimExecutorHost({
      ...{ ...common, network, seams, onEvent, socket: node.socket, strike: strikeAtEffect },
    });
    const recovering = { bootId, runner: this.#runner, step, remembersEnds };
    recover({ ...common, ...recovering, world: network.world }, (news) => {
      this.#run(news);
    });
  }

  get sessionId(): string {
    return this.#client.sessionId;
  }

  /** The operator takes this node out of the cluster. */
  unregister(): void {
    this.#client.send({ type: 'UnregisterAgent', agentId: this.#node.agentId });
  }

  #createClient(): SimClient {
    const { agentId, name, resources } = this.#node;
    const info: AgentInfo = { agentId, hostname: name, resources, attributes: {} };
    return new SimClient({
      network: this.#options.network,
      timing: this.#options.timing,
      process: this.process,
      client: agentName(agentId),
      register: (session) => {
        const registration = this.#options.seams.registration(registrationOf(this.state));
        this.#noteSizes(registration.tasks);
        return [{ type: 'RegisterAgent', agent: info, session, node: name, ...registration }];
      },
      onMessage: (message) => {
        this.#receive(message);
      },
      onMoved: () => {
        this.#options.observer.agentMoved(name);
        this.#leave('another process has registered as this agent');
      },
      onHeartbeat: (isOk, tookMs) => {
        this.#onHeartbeat(isOk, tookMs);
      },
    });
  }

  /** As if that time had passed in which nothing happens. */
  passTime(forMs: number): void {
    const { seams, network } = this.#options;
    const effects = seams.step(this.state, { type: 'tick' }, network.world.nowMs + forMs);
    for (const effect of effects) this.#perform(effect);
  }

  #noteSizes(tasks: MessageOf<'RegisterAgent'>['tasks']): void {
    const { observer } = this.#options;
    for (const { launchId, state, resources } of tasks)
      if (!isTerminal(state)) observer.taskReported(launchId, resources);
  }

  #run(news: ExecutorNews): void {
    this.#host.listen();
    for (const effect of news.effects) this.#perform(effect);
    this.#host.flush();
    for (const event of news.events) this.#step(event);
    if (!this.process.isAlive) return;
    this.#node.systemd.onUnitChanged = (unit) => {
      this.process.run(() => {
        this.#look(unit);
      });
    };
    this.#log(() => `recovered ${this.state.tasks.size} tasks`);
    for (const stopAfterMs of this.#fencesInUse())
      this.#node.systemd.ensureFence(stopAfterMs, () => undefined);
    this.#client.start();
    this.#relist();
    this.#planTick();
  }

  #leave(why: string): void {
    this.#log(() => `stops: ${why}`);
    this.#client.stop();
    this.process.kill();
    this.#node.systemd.onUnitChanged = () => undefined;
    this.#options.network.world.at(RESTART_MS, () => {
      if (this.#node.agent === this) this.#node.start();
    });
  }

  /** Only a kill that is under way and executors with something to wait for need ticks. */
  #planTick(): void {
    const { world } = this.#options.network;
    const isBusy = this.#isBusy();
    const atMs = world.nowMs + (isBusy ? this.#options.timing.agentTickMs : IDLE_TICK_MS);
    if (this.#tickAtMs <= atMs) return;
    this.#tickAtMs = atMs;
    this.process.after(atMs - world.nowMs, () => {
      if (this.#tickAtMs !== atMs) return;
      this.#tickAtMs = Infinity;
      this.#step({ type: 'tick' });
      this.#planTick();
    });
  }

  #isBusy(): boolean {
    for (const executor of this.state.executors.values()) if (isWaiting(executor)) return true;
    for (const { kill, state } of this.state.tasks.values())
      if (kill && !isTerminal(state)) return true;
    return false;
  }

  #receive(message: Message): void {
    this.#log(() => `<- ${describeMessage(message)}`);
    if (message.type === 'AgentRegistered') {
      this.isRegistered = true;
      const { observer } = this.#options;
      observer.leaderSeen(this.#node.name, this.state.leaderSeen, message.master);
    }
    if (message.type === 'ResizeTask' && message.launchId !== undefined)
      this.#options.observer.resizeAsked(message.launchId, message.resources);
    this.#step({ type: 'message', message });
    if (message.type === 'KillTask' || message.type === 'ShutdownFramework') this.#planTick();
  }

  #step(event: AgentEvent): void {
    const { seams, network } = this.#options;
    if ('key' in event) this.#log(() => `${event.type} ${event.key} ${event.launchId}`);
    const effects = seams.step(this.state, event, network.world.nowMs);
    for (const effect of effects) this.#perform(effect);
    this.#host.flush();
    const isOfExecutor = this.state.executors.size > 0 && event.type !== 'tick';
    if (event.type === 'unit.started' || isOfExecutor) this.#planTick();
  }

  /** Those with a unit of their own. */
  #units(): UnitEntry[] {
    const { tasks, executors } = this.state;
    return [...executors.values(), ...[...tasks.values()].filter(({ hosted }) => !hosted)];
  }

  #perform(effect: AgentEffect): void {
    if (!this.process.isAlive) return;
    const { disk } = this.#node;
    switch (effect.type) {
      case 'task.start':
        this.#runner.start(effect.entry);
        return;
      case 'unit.signal':
        this.#log(() => `sends signal ${effect.signal} to ${effect.entry.unit}`);
        this.#runner.signal(effect.entry, effect.signal);
        return;
      case 'unit.resize':
        if (!isExecutor(effect.entry) && effect.entry.hosted)
          this.#host.resizeTask(effect.entry, effect.resizeId, effect.limits);
        else this.#runner.resize(effect.entry, effect.resizeId, effect.limits);
        return;
      case 'message.send':
        this.#send(effect.message);
        return;
      case 'checkpoint.update':
        this.#runner.update(effect.entry);
        return;
      case 'checkpoint.retire':
        this.#runner.forget(effect.entry);
        return;
      case 'ended.forget':
        disk.ended.delete(effect.launchId);
        return;
      case 'directory.note':
        disk.directories.set(effect.reservation.reservationId, effect.reservation);
        return;
      case 'directory.remove':
        disk.directories.delete(effect.reservationId);
        this.#step({ type: 'directory.removed', reservationId: effect.reservationId });
        return;
      case 'leader.remember':
        disk.leaderSeen = effect.leader;
        return;
      case 'agent.stop':
        this.#leave(`${effect.code}: ${effect.message}`);
        return;
      default:
        this.#host.perform(effect);
        this.#options.strikeAtEffect();
    }
  }

  #send(message: Message): void {
    this.#log(() => `-> ${describeMessage(message)}`);
    if (message.type === 'TaskResized' && message.launchId && message.resources)
      this.#options.observer.taskSized(message.launchId, message.resources);
    this.#client.send(message);
  }

  /** As `agent/fences.ts`. */
  #onHeartbeat(isOk: boolean, tookMs: number): void {
    if (!this.#options.seams.isContact(isOk, tookMs, ANSWER_MAX_MS)) return;
    const { nowMs } = this.#options.network.world;
    for (const stopAfterMs of this.#fencesInUse()) {
      if (nowMs - (this.#fenceSetAtMs.get(stopAfterMs) ?? -Infinity) < stopAfterMs / 4) continue;
      this.#fenceSetAtMs.set(stopAfterMs, nowMs);
      this.#node.systemd.armFence(stopAfterMs, () => undefined);
    }
  }

  #fencesInUse(): ReadonlySet<number> {
    const times = new Set<number>();
    for (const entry of this.#units()) {
      const { whenUnreachable } = entry.task;
      if (whenUnreachable !== 'keep' && !isOver(entry)) times.add(whenUnreachable.stopAfterMs);
    }
    return times;
  }

  #look(unit: string): void {
    for (const entry of this.#units()) {
      if (entry.unit === unit && entry.started && !isOver(entry)) this.#runner.look(entry);
    }
  }

  #relist(): void {
    this.#node.systemd.listUnits((listed) => {
      this.process.run(() => {
        for (const entry of this.#units()) {
          if (!entry.started || isOver(entry)) continue;
          if (listed.get(entry.unit)?.state !== 'running') this.#runner.look(entry);
        }
        const { systemd } = this.#node;
        const { world } = this.#options.network;
        const options = { world, systemd, state: this.state, runner: this.#runner };
        adoptUnknown(options, listed, (event) => {
          this.#step(event);
        });
      });
    });
    this.process.after(this.#options.timing.relistMs, () => {
      this.#relist();
    });
  }

  #log(what: string | (() => string)): void {
    this.#options.network.world.log(this.process.name, what);
  }
}

/** Something is due before long. */
function isWaiting(executor: ExecutorEntry): boolean {
  const { kill, registerByMs, waiting, shrinkDelayMs, peak, granted, needed } = executor;
  if (kill || registerByMs !== undefined || waiting.size > 0 || shrinkDelayMs > 0) return true;
  return executor.started && !(areEqual(peak, granted) && areEqual(needed, granted));
}
