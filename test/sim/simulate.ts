/** One run: a cluster, faults for a while, then peace, after which everything must come to its end. */
import { RedisModel } from '../../io/fake/model.ts';
import type { FrameworkId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { formatResources, NO_RESOURCES } from '../../protocol/resources.ts';
import { SimNode } from './agent.ts';
import { checkBooks } from './books.ts';
import { Checks, Violation } from './checks.ts';
import type { Faults } from './faults.ts';
import { CALM, describeFaults, drawFaults } from './faults.ts';
import { drawCharacter, SimFramework } from './framework.ts';
import { SimMaster } from './master.ts';
import type { Seams } from './mutation.ts';
import { PRODUCTION } from './mutation.ts';
import { Network } from './network.ts';
import { observeRedis, passThrough } from './redis.ts';
import type { SimRedis } from './redis.ts';
import { EPOCH_MS, World } from './world.ts';

/** Long enough for some of each fault and of each timeout. */
const FAULTS_MS = 40_000;
/** Longest time in which a healed cluster finishes what it has: partitions and pauses that began before, then tasks. */
const HEALING_MS = 120_000;
const LOOK_MS = 1000;

export interface Outcome {
  readonly seed: number;
  /** What was wrong; undefined if nothing. */
  readonly violation: string | undefined;
  readonly lines: readonly string[];
  readonly digest: string;
  /** How many tasks were accepted: a run in which nothing happens proves nothing. */
  readonly tasks: number;
}

export function simulate(seed: number, seams: Seams = PRODUCTION): Outcome {
  const world = new World(seed);
  const faults: Faults = drawFaults(world.random);
  const checks = new Checks(world);
  world.log('world', `seed ${seed}: ${describeFaults(faults)}`);
  let violation: string | undefined;
  try {
    const cluster = new Cluster(world, faults, checks, seams);
    cluster.disturb();
    world.runUntil(EPOCH_MS + FAULTS_MS);
    cluster.heal();
    cluster.settle();
  } catch (error) {
    // A broken assumption of a core (an exception) is a finding like any other.
    violation = error instanceof Violation ? error.message : String((error as Error).stack);
    world.log('world', `VIOLATION ${violation}`);
  }
  const { lines } = world;
  return { seed, violation, lines, digest: world.digest(), tasks: checks.accepted.size };
}

class Cluster {
  readonly #world: World;
  readonly #faults: Faults;
  readonly #checks: Checks;
  readonly #network: Network;
  readonly #redis: SimRedis;
  readonly #model: SimRedis;
  readonly #masters: SimMaster[];
  readonly #nodes: SimNode[];
  readonly #frameworks: SimFramework[];
  #isHealed = false;

  constructor(world: World, faults: Faults, checks: Checks, seams: Seams) {
    this.#world = world;
    this.#faults = faults;
    this.#checks = checks;
    this.#network = new Network(world, faults);
    const model = new RedisModel(() => Math.floor(world.nowMs));
    model.onWrite = () => {
      this.#network.wake();
    };
    this.#model = passThrough(model);
    this.#redis = observeRedis(seams.redis(this.#model), checks);
    const base = { network: this.#network, redis: this.#redis };
    const { random } = world;
    this.#masters = names('m', random.int(2, 3)).map(
      (name) => new SimMaster(name, { ...base, step: seams.masterStep, onBatch: checkBooks }),
    );
    this.#nodes = names('a', random.int(1, 4)).map((name) => {
      const resources = { cpuMillis: random.int(1, 8) * 1000, memMib: random.int(4, 32) * 256 };
      checks.addNode(name, resources);
      return new SimNode(name, { ...base, step: seams.agentStep, observer: checks, resources });
    });
    this.#frameworks = names('f', random.int(1, 3)).map(
      (name) =>
        new SimFramework(name, { ...base, observer: checks, character: drawCharacter(random) }),
    );
  }

  /** Plans the faults that come by themselves, each victim's own. */
  disturb(): void {
    const { random } = this.#world;
    const f = this.#faults;
    for (const master of this.#masters) {
      this.#repeat(f.masterCrashEveryMs, () => {
        master.crash(random.int(50, 5000));
      });
      this.#repeat(f.masterPauseEveryMs, () => {
        this.#pause(master.process, f.masterPauseMs);
      });
      this.#repeat(f.partitionEveryMs, () => {
        this.#partition(master.process);
      });
    }
    for (const node of this.#nodes) {
      this.#repeat(f.agentCrashEveryMs, () => {
        node.crashAgent(random.int(50, 12_000));
      });
      this.#repeat(f.rebootEveryMs, () => {
        node.reboot(random.int(1000, 15_000));
      });
      this.#repeat(f.partitionEveryMs, () => {
        if (node.agent) this.#partition(node.agent.process);
      });
    }
    for (const framework of this.#frameworks) this.#disturbFramework(framework);
  }

  #disturbFramework(framework: SimFramework): void {
    const { random } = this.#world;
    const f = this.#faults;
    this.#repeat(f.frameworkCrashEveryMs, () => {
      framework.crash(random.int(50, 8000));
    });
    this.#repeat(f.frameworkPauseEveryMs, () => {
      const run = framework.run;
      if (!run) return;
      this.#pause(run.process, f.frameworkPauseMs);
      if (random.chance(0.3)) framework.start();
    });
    this.#repeat(f.partitionEveryMs, () => {
      if (framework.run) this.#partition(framework.run.process);
    });
  }

  #repeat(meanMs: number, act: () => void): void {
    if (meanMs === 0) return;
    this.#world.at(this.#world.random.exponential(meanMs), () => {
      if (this.#isHealed) return;
      act();
      this.#repeat(meanMs, act);
    });
  }

  #pause(process: SimMaster['process'], meanMs: number): void {
    const forMs = Math.round(this.#world.random.next() * 2 * meanMs);
    this.#world.log(process.name, `stands still for ${forMs} ms`);
    process.pause(forMs);
  }

  #partition(process: SimMaster['process']): void {
    const forMs = Math.round(this.#world.random.next() * 2 * this.#faults.partitionMs);
    this.#world.log(process.name, `is cut off for ${forMs} ms`);
    this.#network.partition(process, forMs);
  }

  /** No fault begins any more, and frameworks bring to an end what they have. */
  heal(): void {
    this.#world.log('world', 'heals');
    this.#isHealed = true;
    Object.assign(this.#faults, CALM);
    for (const framework of this.#frameworks) framework.drain();
    this.#killFromOutside(1);
  }

  /** An operator kills what nobody else will: tasks of frameworks that have left, and run for ever. */
  #killFromOutside(sequence: number): void {
    this.#world.at(10_000, () => {
      const kills = [...this.#checks.tasks.values()].map(({ frameworkId, taskId }) => ({
        type: 'KillTask' as const,
        frameworkId,
        taskId,
        by: 'operator' as const,
      }));
      this.#redis.append({
        client: 'operator:cli',
        session: 'operator' as Parameters<SimRedis['append']>[0]['session'],
        sequence,
        messages: JSON.stringify(kills),
      });
      this.#killFromOutside(sequence + 1);
    });
  }

  /** Waits until nothing is left, and then whether all resources are offered to one who asks. */
  settle(): void {
    let left: string[] = [];
    for (let waitedMs = 0; waitedMs < HEALING_MS; waitedMs += LOOK_MS) {
      this.#world.runUntil(this.#world.nowMs + LOOK_MS);
      left = this.#leftOver();
      if (left.length === 0) {
        this.#probe();
        return;
      }
    }
    throw new Violation(
      `${HEALING_MS / 1000} s after the last fault: ${left.slice(0, 5).join('; ')}`,
    );
  }

  #leftOver(): string[] {
    const { tasks, offers } = this.#checks;
    const left = [...tasks.values()].map(
      ({ frameworkId, taskId, state }) => `the registry has ${frameworkId}/${taskId} ${state}`,
    );
    for (const framework of this.#frameworks) {
      for (const { taskId } of framework.open())
        left.push(`${framework.frameworkId} never heard the end of ${taskId}`);
    }
    for (const node of this.#nodes) {
      if (this.#checks.agentSessions.get(node.name) !== node.agent?.sessionId) {
        left.push(`agent ${node.name} is not registered`);
      }
      for (const { name } of this.#checks.runningOn(node.name))
        left.push(`${node.name} runs ${name}`);
      for (const name of node.systemd.units.keys()) left.push(`${node.name} has unit ${name}`);
      for (const name of node.disk.checkpoints.keys())
        left.push(`${node.name} has checkpoint ${name}`);
      for (const key of node.agent?.state.tasks.keys() ?? [])
        left.push(`agent ${node.name} has ${key}`);
    }
    for (const offerId of offers.keys()) left.push(`offer ${offerId} is out`);
    return left;
  }

  /** A framework that takes whatever there is must be offered every node, whole. */
  #probe(): void {
    const { random } = this.#world;
    const probe = new SimFramework('probe', {
      network: this.#network,
      redis: this.#redis,
      observer: this.#checks,
      character: {
        ...drawCharacter(random),
        statesDemand: false,
        accept: 0,
        decline: 0,
        nonsense: 0,
        kill: 0,
        suppress: 0,
        leave: 0,
      },
    });
    const seen = new Map<string, Resources>();
    this.#checks.onOffers = (frameworkId: FrameworkId, offers) => {
      if (frameworkId !== probe.frameworkId) return;
      // Each time all that a node has is in one offer, so the last one says it.
      for (const { agentId, resources } of offers) seen.set(agentId, resources);
    };
    let missing: string | undefined;
    for (let waitedMs = 0; waitedMs < HEALING_MS; waitedMs += LOOK_MS) {
      this.#world.runUntil(this.#world.nowMs + LOOK_MS);
      missing = this.#notOffered(seen);
      if (missing === undefined) return;
    }
    throw new Violation(`all is over, and ${missing}`);
  }

  #notOffered(offered: ReadonlyMap<string, Resources>): string | undefined {
    for (const { name, resources } of this.#nodes) {
      const part = offered.get(name) ?? NO_RESOURCES;
      if (part.cpuMillis === resources.cpuMillis && part.memMib === resources.memMib) continue;
      return `of ${name} ${formatResources(part)} of ${formatResources(resources)} are offered`;
    }
    return undefined;
  }
}

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`);
}
