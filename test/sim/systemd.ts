/**
 * A node's PID 1, simulated: units that start, run, end in different ways, and stay loaded until they are released; and
 * fences, which stop units whether or not an agent lives. Requests are worked off one after the other, as D-Bus delivers
 * them, whether or not their sender still lives.
 */
import type { LaunchId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { DeathCertificate, FrameworkInfo, TaskInfo } from '../../protocol/task.ts';
import type { Faults } from './faults.ts';
import type { Timing } from './timing.ts';
import type { Process, World } from './world.ts';

const SIGKILL = 9;
const SIGTERM = 15;
const FOREVER_SHARE = 0.1;

/** What is started: whose process it is, as the unit's own record says it too. */
export interface SimUnitSpec {
  readonly name: string;
  readonly framework: FrameworkInfo;
  readonly detached: boolean;
  readonly task: TaskInfo;
  readonly launchId: LaunchId;
  /** With which it is started. */
  readonly limits: Resources;
}

/** A process that does more than to run and end: an executor. */
export interface Program {
  readonly process: Process;
  /** It is gone at once. */
  kill(): void;
  /** What runs in the cgroup of one of its tasks is gone. @returns false if nothing does */
  killTask(launchId: LaunchId): boolean;
}

/** How the main process ended. */
export interface SimEnd {
  readonly result: 'success' | 'oom-kill' | 'exit-code';
  readonly certificate: Pick<DeathCertificate, 'exitCode' | 'signal' | 'oomKills'>;
}

/** Who has ended a process: itself (or the kernel, for its memory), or one of these. */
export type Ender = 'itself' | 'agent' | 'fence' | 'hand' | 'reboot';

export interface SimUnit {
  readonly spec: SimUnitSpec;
  state: 'activating' | 'running' | 'ended';
  end?: SimEnd;
  ender?: Ender;
  /** In force. */
  limits: Resources;
  program?: Program;
  readonly ignoresSigterm: boolean;
}

/** Told of each process, as the kernel sees it. */
export interface ProcessObserver {
  processStarted(node: string, spec: SimUnitSpec): void;
  processEnded(node: string, spec: SimUnitSpec, end: SimEnd | 'killed', ender: Ender): void;
  /** The kernel has other limits for it. */
  limitsChanged(node: string, spec: SimUnitSpec, limits: Resources): void;
}

export interface SystemdOptions {
  readonly setsFences: boolean;
  readonly world: World;
  readonly faults: Faults;
  readonly timing: Timing;
  readonly node: string;
  readonly observer: ProcessObserver;
  /** The command of that launch was executed. */
  readonly onExecuted: (launchId: LaunchId) => void;
  /** Starts what is more than a process. @returns undefined if it is no more */
  readonly program: (spec: SimUnitSpec, exit: (end: SimEnd) => void) => Program | undefined;
}

export class SimSystemd {
  readonly units = new Map<string, SimUnit>();
  readonly #options: SystemdOptions;
  #freeAtMs = 0;
  /** What was asked of the systemd before a reboot is asked of nobody. */
  #boots = 0;
  /** Fences that are armed, by their time; the number tells one arming from the next. */
  readonly #fences = new Map<number, number>();
  #armings = 0;
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
      const unit: SimUnit = {
        spec,
        state: 'activating',
        limits: spec.limits,
        ignoresSigterm: random.chance(0.2),
      };
      this.units.set(spec.name, unit);
      this.#options.world.at(this.#delayMs(), () => {
        if (this.units.get(spec.name) !== unit) return;
        if (unit.state === 'activating') this.#exec(unit, done);
        else done('it was stopped while it was started');
      });
    });
  }

  #exec(unit: SimUnit, done: (failure: string | undefined) => void): void {
    const { world, faults, node, observer, onExecuted, program } = this.#options;
    onExecuted(unit.spec.launchId);
    if (world.random.chance(faults.startFailure)) {
      // It stays loaded until somebody has read why.
      unit.state = 'ended';
      unit.end = { result: 'exit-code', certificate: { exitCode: 203 } };
      done('exit status 203');
      return;
    }
    unit.state = 'running';
    world.log(node, () => `process of ${unit.spec.name} starts`);
    observer.processStarted(node, unit.spec);
    const running = program(unit.spec, (end) => {
      this.#end(unit, end, 'itself');
    });
    if (running) this.#runProgram(unit, running);
    else this.#endSomeTime(unit);
    done(undefined);
  }

  #endSomeTime(unit: SimUnit): void {
    const { world, timing } = this.#options;
    if (world.random.chance(FOREVER_SHARE)) return;
    const runMs = Math.min(world.random.exponential(timing.taskMs), timing.taskMaxMs);
    world.at(runMs, () => {
      this.#end(unit, this.#drawEnd(), 'itself');
    });
  }

  #runProgram(unit: SimUnit, program: Program): void {
    const { world, faults } = this.#options;
    unit.program = program;
    if (faults.executorCrashEveryMs === 0) return;
    world.at(world.random.exponential(faults.executorCrashEveryMs), () => {
      if (faults.executorCrashEveryMs > 0) this.#end(unit, this.#drawEnd(), 'itself');
    });
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

  killUnit(name: string, signal: number): void {
    this.#request(() => {
      const unit = this.units.get(name);
      if (!unit || (signal === SIGTERM && unit.ignoresSigterm)) return;
      // A unit that is being started may have no process yet: then the signal is lost.
      this.#options.world.at(this.#delayMs(), () => {
        this.#end(unit, { result: 'success', certificate: { signal } }, 'agent');
      });
    });
  }

  /** Ends what is left and unloads the unit. */
  releaseUnit(name: string, done: () => void): void {
    this.#request(() => {
      const unit = this.units.get(name);
      if (unit) this.#remove(unit, 'agent');
      done();
    });
  }

  /**
   * Other limits for a unit that runs. Memory that is in use is not taken away.
   *
   * @param done with those in force; undefined: it failed, and nobody knows what is
   */
  resizeUnit(
    name: string,
    limits: Resources,
    done: (inForce: Resources | undefined) => void,
  ): void {
    const { world, faults } = this.#options;
    const { random } = world;
    this.#request(() => {
      const unit = this.units.get(name);
      const isFailure = random.chance(faults.resizeFailure);
      if (unit?.state !== 'running' || (isFailure && random.chance(0.5))) {
        done(undefined);
        return;
      }
      this.#setLimits(unit, limits);
      done(isFailure ? undefined : unit.limits);
    });
  }

  #setLimits(unit: SimUnit, limits: Resources): void {
    const { world, faults, node, observer } = this.#options;
    const { random } = world;
    const before = unit.limits.memMib;
    const isInUse = limits.memMib < before && random.chance(faults.shrinkRefusal);
    const memMib = isInUse ? random.int(limits.memMib, before) : limits.memMib;
    unit.limits = { cpuMillis: limits.cpuMillis, memMib };
    world.log(node, () => `limits of ${unit.spec.name} are ${JSON.stringify(unit.limits)}`);
    observer.limitsChanged(node, unit.spec, unit.limits);
  }

  /** What is in the cgroup of a task of an executor ends. No systemd has a part in that. */
  closeTaskGroup(name: string, launchId: LaunchId): boolean {
    return this.units.get(name)?.program?.killTask(launchId) ?? false;
  }

  readUnit(name: string, done: (unit: SimUnit | undefined) => void): void {
    this.#request(() => {
      const unit = this.units.get(name);
      done(unit && { ...unit });
    });
  }

  listUnits(done: (units: ReadonlyMap<string, SimUnit>) => void): void {
    this.#request(() => {
      done(new Map([...this.units].map(([name, unit]) => [name, { ...unit }])));
    });
  }

  /** The node restarts: nothing of it is left. */
  reboot(): void {
    for (const unit of [...this.units.values()]) this.#remove(unit, 'reboot');
    this.#fences.clear();
    this.#boots += 1;
    this.#freeAtMs = 0;
  }

  /** Somebody types `systemctl stop`; some units are unloaded by that. */
  stopByHand(): void {
    const { world, node } = this.#options;
    const running = [...this.units.values()].filter(({ state }) => state === 'running');
    if (running.length === 0) return;
    const unit = world.random.pick(running);
    world.log(node, () => `${unit.spec.name} is stopped by hand`);
    if (world.random.chance(0.5)) this.#remove(unit, 'hand');
    else this.#end(unit, { result: 'success', certificate: { signal: SIGTERM } }, 'hand');
  }

  // --- fences ----------------------------------------------------------------------------------------------------

  armFence(stopAfterMs: number, done: () => void): void {
    this.#request(() => {
      this.#arm(stopAfterMs);
      done();
    });
  }

  /** Does not touch one that is armed. */
  ensureFence(stopAfterMs: number, done: () => void): void {
    this.#request(() => {
      if (!this.#fences.has(stopAfterMs)) this.#arm(stopAfterMs);
      done();
    });
  }

  #arm(stopAfterMs: number): void {
    if (!this.#options.setsFences) return;
    this.#armings += 1;
    const arming = this.#armings;
    this.#fences.set(stopAfterMs, arming);
    this.#options.world.at(stopAfterMs, () => {
      if (this.#fences.get(stopAfterMs) !== arming) return;
      this.#fences.delete(stopAfterMs);
      this.#fire(stopAfterMs);
    });
  }

  #fire(stopAfterMs: number): void {
    const { world, node } = this.#options;
    for (const unit of this.units.values()) {
      const { whenUnreachable, killGracePeriodMs } = unit.spec.task;
      if (whenUnreachable === 'keep' || whenUnreachable.stopAfterMs !== stopAfterMs) continue;
      if (unit.state === 'ended') continue;
      world.log(node, () => `the fence stops ${unit.spec.name}`);
      if (unit.state === 'activating') {
        unit.state = 'ended';
        unit.ender = 'fence';
        unit.end = { result: 'success', certificate: { signal: SIGTERM } };
        continue;
      }
      const stop = (signal: number): void => {
        this.#end(unit, { result: 'success', certificate: { signal } }, 'fence');
      };
      if (!unit.ignoresSigterm) stop(SIGTERM);
      else
        world.at(killGracePeriodMs, () => {
          stop(SIGKILL);
        });
    }
  }

  #remove(unit: SimUnit, ender: Ender): void {
    const { node, observer } = this.#options;
    if (unit.state === 'running') {
      unit.program?.kill();
      observer.processEnded(node, unit.spec, 'killed', ender);
    }
    unit.state = 'ended';
    this.units.delete(unit.spec.name);
  }

  #end(unit: SimUnit, end: SimEnd, ender: Ender): void {
    const { world, faults, node, observer } = this.#options;
    if (unit.state !== 'running') return;
    unit.state = 'ended';
    unit.end = end;
    unit.ender = ender;
    world.log(node, () => `process of ${unit.spec.name} ends: ${JSON.stringify(end)} by ${ender}`);
    unit.program?.kill();
    observer.processEnded(node, unit.spec, end, ender);
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
    const boot = this.#boots;
    world.at(this.#freeAtMs - world.nowMs, () => {
      if (boot === this.#boots) run();
    });
  }

  #delayMs(): number {
    const { world, faults } = this.#options;
    if (world.random.chance(faults.slowSystemd)) return world.random.next() * faults.slowSystemdMs;
    return world.random.next() * 4;
  }
}
