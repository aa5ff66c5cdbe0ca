/** A simulated cluster: everything that takes part in a run, and what an operator does to it. */
import type { MasterState } from '../../master/core/state.ts';
import type { Append } from '../../io/store.ts';
import type { AgentId } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import type { NodeOptions } from './agent.ts';
import { SimNode } from './agent.ts';
import { checkBooks } from './books.ts';
import type { Checks } from './checks.ts';
import type { Faults } from './faults.ts';
import { CALM } from './faults.ts';
import type { Character } from './character.ts';
import { SimFramework } from './framework.ts';
import { SimMaster } from './master.ts';
import type { Seams } from './mutation.ts';
import { Network } from './network.ts';
import type { Plan } from './plan.ts';
import { RedisHosts, Refused } from './redis.ts';
import type { World } from './world.ts';

/** How often an operator looks at a cluster that has healed. */
const OPERATOR_EVERY_MS = 10_000;
/** How long another machine tries to be an agent that there is. */
const IMPOSTOR_MS = 3000;

export class Cluster {
  readonly world: World;
  readonly faults: Faults;
  readonly plan: Plan;
  readonly network: Network;
  readonly checks: Checks;
  readonly masters: readonly SimMaster[];
  readonly nodes: readonly SimNode[];
  readonly impostors: SimNode[] = [];
  readonly frameworks: readonly SimFramework[];
  isHealed = false;
  #commands = 0;
  #batches = 0;
  readonly #seams: Seams;

  constructor(world: World, plan: Plan, checks: Checks, seams: Seams) {
    this.world = world;
    this.plan = plan;
    this.faults = plan.faults;
    this.checks = checks;
    this.#seams = seams;
    checks.clockSkewMs = plan.faults.clockSkewMs;
    this.network = new Network(world, this.faults);
    this.network.hosts = new RedisHosts({ world, skewMs: 0, observer: checks, seam: seams.redis });
    this.masters = names('m', plan.masters).map(
      (name) =>
        new SimMaster(name, {
          network: this.network,
          timing: plan.timing,
          seams: seams.master,
          onBatch: (state) => {
            this.#checkBooks(state);
          },
        }),
    );
    this.nodes = names('a', plan.nodes).map((name) => this.#node(name, name));
    this.frameworks = plan.characters.map((character, index) =>
      this.framework(`f${index + 1}`, character),
    );
  }

  framework(name: string, character: Character): SimFramework {
    const { network, checks, plan } = this;
    const { timing } = plan;
    return new SimFramework(name, { network, timing, observer: checks, character });
  }

  #node(name: string, agentId: string, like?: SimNode): SimNode {
    const { random } = this.world;
    const { network, checks, plan } = this;
    const resources = like?.resources ?? {
      cpuMillis: random.int(1, 8) * 1000,
      memMib: random.int(4, 32) * 256,
    };
    checks.addNode(name, agentId, resources);
    const options: NodeOptions = {
      network,
      timing: plan.timing,
      seams: this.#seams.agent,
      observer: checks,
      resources,
    };
    return new SimNode(name, agentId, options);
  }

  #checkBooks(state: MasterState): void {
    this.#batches += 1;
    if (this.#batches % this.plan.booksEvery === 0) checkBooks(state);
  }

  /** No fault begins any more, and frameworks bring to an end what they have. */
  heal(): void {
    this.world.log('world', 'heals');
    this.isHealed = true;
    Object.assign(this.faults, CALM);
    for (const framework of this.frameworks) framework.drain();
    this.#operate();
  }

  /** Frameworks end the executors that wait for more work. */
  endExecutors(): void {
    this.#endExecutors();
  }

  #endExecutors(): void {
    const executors = [...this.checks.book.executors.values()];
    for (const { frameworkId, agentId, info } of executors) {
      const { executorId } = info;
      for (const framework of this.frameworks) {
        for (const run of framework.runsOf(frameworkId)) run.shutDown({ agentId, executorId });
      }
    }
    if (executors.length > 0)
      this.world.at(OPERATOR_EVERY_MS, () => {
        this.#endExecutors();
      });
  }

  /** An operator kills what nobody else will, and gives up the nodes that do not come back. */
  #operate(): void {
    this.world.at(OPERATOR_EVERY_MS, () => {
      const { book } = this.checks;
      const { tasks } = book;
      const commands: Message[] = [...tasks.values()].map(({ frameworkId, taskId }) => {
        this.checks.endAsked(frameworkId, taskId);
        return { type: 'KillTask', frameworkId, taskId, by: 'operator' };
      });
      for (const { name, agentId } of this.impostors)
        if (book.agent(agentId)?.node === name) commands.push(this.#gone(agentId));
      for (const node of this.nodes) {
        if (node.isClosed && book.agent(node.agentId)?.state === 'unreachable')
          commands.push(this.#gone(node.agentId));
      }
      this.command(commands);
      this.#operate();
    });
  }

  #gone(agentId: AgentId): Message {
    this.checks.givenUp.add(agentId);
    return { type: 'MarkAgentGone', agentId };
  }

  /** Somebody says that this node is gone or takes it out, and it is there. */
  giveUp(node: SimNode, isByOperator: boolean): void {
    this.world.log(node.name, isByOperator ? 'is said to be gone' : 'is taken out');
    if (isByOperator) this.command([this.#gone(node.agentId)]);
    else if (node.agent) {
      this.checks.givenUp.add(node.agentId);
      node.agent.unregister();
    }
  }

  /** Another machine has a copy of the node's disk, with its id. */
  startImpostor(node: SimNode): void {
    if (this.impostors.some(({ agentId }) => agentId === node.agentId)) return;
    if (node.agent?.isRegistered !== true) return;
    const impostor = this.#node(`${node.name}copy`, node.agentId, node);
    this.impostors.push(impostor);
    this.world.at(IMPOSTOR_MS, () => {
      const wasAdmitted = impostor.agent?.isRegistered === true;
      impostor.isClosed = true;
      impostor.agent?.process.kill();
      impostor.systemd.reboot();
      this.world.log(impostor.name, wasAdmitted ? 'leaves, and was an agent' : 'leaves');
      if (wasAdmitted) this.command([this.#gone(node.agentId)]);
    });
  }

  /** From a shell beside Redis; `kaon` begins a new session for each command. */
  command(messages: readonly Message[]): void {
    this.#commands += 1;
    const append: Append = {
      client: 'operator:cli',
      session: `operator${this.#commands}` as Append['session'],
      sequence: 1,
      messages: JSON.stringify(messages),
    };
    try {
      if (messages.length > 0) this.network.hosts.primary.redis.append(append);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }
}

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`);
}
