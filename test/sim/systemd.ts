/**
 * A node's PID 1, simulated: units that start, run, end in different ways, and stay loaded until they are released.
 * Requests are worked off one after the other, as D-Bus delivers them, whether or not their sender still lives.
 */
import type { DeathCertificate, TaskInfo } from '../../protocol/task.ts';
import type { Faults } from './faults.ts';
import type { World } from './world.ts';

const SIGKILL = 9;
const SIGTERM = 15;
/** Longest that a task runs by itself; those that never end are killed by somebody. */
const RUN_MAX_MS = 15_000;
const FOREVER_SHARE = 0.1;

/** What is started: enough to tell whose process it is. */
export interface SimUnitSpec {
  readonly name: string;
  readonly frameworkId: string;
  readonly task: TaskInfo;
}

/** How the main process ended. */
export interface SimEnd {
  readonly result: 'success' | 'oom-kill' | 'exit-code';
  readonly certificate: Pick<DeathCertificate, 'exitCode' | 'signal' | 'oomKills'>;
}

export interface SimUnit {
  readonly spec: SimUnitSpec;
  state: 'activating' | 'running' | 'ended';
  end?: SimEnd;
  readonly ignoresSigterm: boolean;
}

/** Told of each process, as the kernel sees it. */
export interface ProcessObserver {
  processStarted(node: string, spec: SimUnitSpec): void;
  processEnded(node: string, spec: SimUnitSpec, end: SimEnd | 'killed'): void;
}

export interface SystemdOptions {
  readonly world: World;
  readonly faults: Faults;
  readonly node: string;
  readonly observer: ProcessObserver;
}

export class SimSystemd {
  readonly units = new Map<string, SimUnit>();
  readonly #options: SystemdOptions;
  #freeAtMs = 0;
  /** Set by the agent that lives; signals find nobody otherwise. */
  onUnitChanged: (unit: string) => void = () => undefined;

  constructor(options: SystemdOptions) {
    this.#options = options;
  }

  /** @param done `undefined`: its command runs; else why not */
  startUnit(spec: SimUnitSpec, done: (failure: string | undefined) => void): void {
    this.#request(() => {
      if (this.units.has(spec.name)) {
        done(`unit ${spec.name} exists`);
        return;
      }
      const { random } = this.#options.world;
      const unit: SimUnit = { spec, state: 'activating', ignoresSigterm: random.chance(0.2) };
      this.units.set(spec.name, unit);
      this.#options.world.at(this.#delayMs(), () => {
        if (this.units.get(spec.name) === unit && unit.state === 'activating')
          this.#exec(unit, done);
      });
    });
  }

  #exec(unit: SimUnit, done: (failure: string | undefined) => void): void {
    const { world, faults, node, observer } = this.#options;
    if (world.random.chance(faults.startFailure)) {
      // It stays loaded until somebody has read why.
      unit.state = 'ended';
      unit.end = { result: 'exit-code', certificate: { exitCode: 203 } };
      done('exit status 203');
      return;
    }
    unit.state = 'running';
    world.log(node, `process of ${unit.spec.name} starts`);
    observer.processStarted(node, unit.spec);
    if (!world.random.chance(FOREVER_SHARE)) {
      const runMs = Math.min(world.random.exponential(3000), RUN_MAX_MS);
      world.at(runMs, () => {
        this.#end(unit, this.#drawEnd());
      });
    }
    done(undefined);
  }

  #drawEnd(): SimEnd {
    const { random } = this.#options.world;
    return random.pick<SimEnd>([
      { result: 'success', certificate: { exitCode: 0 } },
      { result: 'success', certificate: { exitCode: 0 } },
      { result: 'success', certificate: { exitCode: random.int(1, 255) } },
      { result: 'success', certificate: { signal: 11 } },
      { result: 'oom-kill', certificate: { signal: SIGKILL, oomKills: 1 } },
    ]);
  }

  /** @param done whether there was such a unit */
  killUnit(name: string, signal: number, done: (found: boolean) => void): void {
    this.#request(() => {
      const unit = this.units.get(name);
      done(unit !== undefined);
      if (!unit || (signal === SIGTERM && unit.ignoresSigterm)) return;
      // A unit that is being started may have no process yet: then the signal is lost.
      this.#options.world.at(this.#delayMs(), () => {
        this.#end(unit, { result: 'success', certificate: { signal } });
      });
    });
  }

  /** Ends what is left and unloads the unit. */
  releaseUnit(name: string, done: () => void): void {
    this.#request(() => {
      const unit = this.units.get(name);
      if (unit) this.#remove(unit);
      done();
    });
  }

  readUnit(name: string, done: (unit: SimUnit | undefined) => void): void {
    this.#request(() => {
      const unit = this.units.get(name);
      done(unit && { ...unit });
    });
  }

  listUnits(done: (units: ReadonlyMap<string, SimUnit['state']>) => void): void {
    this.#request(() => {
      done(new Map([...this.units].map(([name, { state }]) => [name, state])));
    });
  }

  /** The node restarts: nothing of it is left. */
  reboot(): void {
    for (const unit of [...this.units.values()]) this.#remove(unit);
  }

  #remove(unit: SimUnit): void {
    const { node, observer } = this.#options;
    if (unit.state === 'running') observer.processEnded(node, unit.spec, 'killed');
    unit.state = 'ended';
    this.units.delete(unit.spec.name);
  }

  #end(unit: SimUnit, end: SimEnd): void {
    const { world, faults, node, observer } = this.#options;
    if (unit.state !== 'running') return;
    unit.state = 'ended';
    unit.end = end;
    world.log(node, `process of ${unit.spec.name} ends: ${JSON.stringify(end)}`);
    observer.processEnded(node, unit.spec, end);
    if (!world.random.chance(faults.lostSignal)) {
      world.at(this.#delayMs(), () => {
        this.onUnitChanged(unit.spec.name);
      });
    }
  }

  /** One after the other. */
  #request(run: () => void): void {
    const { world } = this.#options;
    this.#freeAtMs = Math.max(this.#freeAtMs, world.nowMs) + this.#delayMs();
    world.at(this.#freeAtMs - world.nowMs, run);
  }

  #delayMs(): number {
    const { world, faults } = this.#options;
    if (world.random.chance(faults.slowSystemd)) return world.random.next() * faults.slowSystemdMs;
    return world.random.next() * 4;
  }
}
