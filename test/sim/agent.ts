/**
 * A simulated node: the production agent core in a shell that does what `agent/agent.ts` does. The node outlives its
 * agents: units, checkpoints and the agent's id stay when an agent dies.
 */
import type { AgentState } from '../../agent/core/state.ts';
import { agentTasks, createAgentState } from '../../agent/core/state.ts';
import type { AgentEffect, AgentEvent } from '../../agent/core/step.ts';
import type { AgentId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { AgentInfo } from '../../protocol/task.ts';
import { SimClient } from './client.ts';
import { describeMessage } from './describe.ts';
import type { Disk } from './disk.ts';
import { createDisk } from './disk.ts';
import type { AgentStep } from './mutation.ts';
import type { Network } from './network.ts';
import type { SimRedis } from './redis.ts';
import { recover } from './recovery.ts';
import type { SimRunner } from './runner.ts';
import { createRunner } from './runner.ts';
import type { ProcessObserver } from './systemd.ts';
import { SimSystemd } from './systemd.ts';
import { Process } from './world.ts';

const TICK_MS = 200;
const RELIST_MS = 5000;

export interface NodeOptions {
  readonly network: Network;
  readonly redis: SimRedis;
  readonly step: AgentStep;
  readonly observer: ProcessObserver;
  readonly resources: Resources;
}

/** A machine with an agent on it. */
export class SimNode {
  readonly name: string;
  readonly systemd: SimSystemd;
  readonly disk: Disk;
  readonly resources: Resources;
  bootId = 1;
  agent: SimAgent | undefined;
  readonly #options: NodeOptions;
  #runs = 0;

  constructor(name: string, options: NodeOptions) {
    this.name = name;
    this.#options = options;
    this.resources = options.resources;
    const { world, faults } = options.network;
    this.systemd = new SimSystemd({ world, faults, node: name, observer: options.observer });
    this.disk = createDisk(world, faults);
    this.#start();
  }

  /** The agent dies, and another is started after that time. */
  crashAgent(downMs: number): void {
    if (!this.agent?.process.isAlive) return;
    const { world } = this.#options.network;
    world.log(this.agent.process.name, 'crashes');
    this.agent.process.kill();
    this.systemd.onUnitChanged = () => undefined;
    world.at(downMs, () => {
      if (!this.agent?.process.isAlive) this.#start();
    });
  }

  reboot(downMs: number): void {
    const { world } = this.#options.network;
    world.log(this.name, 'reboots');
    this.crashAgent(downMs);
    this.systemd.reboot();
    this.bootId += 1;
  }

  #start(): void {
    const { world, faults } = this.#options.network;
    this.#runs += 1;
    const process = new Process(world, `${this.name}.${this.#runs}`);
    world.log(process.name, 'starts');
    this.agent = new SimAgent(this, process, {
      ...this.#options,
      strike: () => {
        if (!world.random.chance(faults.agentCrashAtStep)) return;
        if (process.isAlive) this.crashAgent(world.random.int(50, 2000));
      },
    });
  }
}

interface AgentOptions extends NodeOptions {
  /** Perhaps the agent dies now. */
  readonly strike: () => void;
}

/** One process of an agent. */
export class SimAgent {
  readonly process: Process;
  readonly state: AgentState;
  readonly #node: SimNode;
  readonly #options: AgentOptions;
  readonly #client: SimClient;
  readonly #runner: SimRunner;

  constructor(node: SimNode, process: Process, options: AgentOptions) {
    this.process = process;
    this.#node = node;
    this.#options = options;
    const agentId = node.name as AgentId;
    this.state = createAgentState({
      agentId,
      agentTag: node.name,
      hostname: node.name,
      launchPrefix: options.network.world.random.name(3),
    });
    const info: AgentInfo = {
      agentId,
      hostname: node.name,
      resources: node.resources,
      attributes: {},
    };
    this.#client = new SimClient({
      ...options,
      process,
      client: agentName(agentId),
      register: (session) => [
        { type: 'RegisterAgent', agent: info, session, tasks: agentTasks(this.state) },
      ],
      onMessage: (message) => {
        this.#receive(message);
      },
      onMoved: () => {
        // Only a test bed with two agents of one id could see this; here it would be a fault of the rules.
        throw new Error(`${process.name} was told that its session has moved`);
      },
    });
    this.#runner = createRunner({
      node,
      process,
      world: options.network.world,
      strike: options.strike,
      onEvent: (event) => {
        this.#step(event);
      },
    });
    recover({
      node,
      process,
      state: this.state,
      runner: this.#runner,
      step: options.step,
      done: () => {
        this.#run();
      },
    });
  }

  get sessionId(): string {
    return this.#client.sessionId;
  }

  #run(): void {
    this.#node.systemd.onUnitChanged = (unit) => {
      this.process.after(0, () => {
        this.#look(unit);
      });
    };
    this.#log(`recovered ${this.state.tasks.size} tasks`);
    this.#client.start();
    this.#relist();
    this.#tick();
  }

  #tick(): void {
    this.process.after(TICK_MS, () => {
      this.#step({ type: 'tick' });
      this.#tick();
    });
  }

  #receive(message: Message): void {
    this.#log(`<- ${describeMessage(message)}`);
    this.#step({ type: 'message', message });
  }

  #step(event: AgentEvent): void {
    const { step, network } = this.#options;
    if (event.type !== 'tick' && event.type !== 'message') this.#log(`${event.type} ${event.key}`);
    for (const effect of step(this.state, event, network.world.nowMs)) this.#perform(effect);
  }

  #perform(effect: AgentEffect): void {
    if (!this.process.isAlive) return;
    switch (effect.type) {
      case 'task.start':
        this.#runner.start(effect.entry);
        return;
      case 'unit.signal':
        this.#log(`sends signal ${effect.signal} to ${effect.entry.unit}`);
        this.#runner.signal(effect.entry, effect.signal);
        return;
      case 'message.send':
        this.#log(`-> ${describeMessage(effect.message)}`);
        this.#client.send(effect.message);
        return;
      case 'checkpoint.remove':
        this.#runner.forget(effect.entry);
        return;
      default:
        effect satisfies never;
    }
  }

  #look(unit: string): void {
    for (const entry of this.state.tasks.values()) {
      if (entry.unit === unit && entry.started && !isTerminal(entry.state))
        this.#runner.look(entry);
    }
  }

  #relist(): void {
    this.#node.systemd.listUnits((listed) => {
      this.process.after(0, () => {
        for (const entry of this.state.tasks.values()) {
          if (!entry.started || isTerminal(entry.state)) continue;
          if (listed.get(entry.unit) !== 'running') this.#runner.look(entry);
        }
      });
    });
    this.process.after(RELIST_MS, () => {
      this.#relist();
    });
  }

  #log(what: string): void {
    this.#options.network.world.log(this.process.name, what);
  }
}
