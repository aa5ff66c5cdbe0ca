/** A simulated master: stands by, leads, and stands by again, as `master/master.ts` and `master/lease.ts` do. */
import type { Lease } from '../../io/store.ts';
import type { MasterId } from '../../protocol/ids.ts';
import type { MasterOptions } from './leadership.ts';
import { Leadership } from './leadership.ts';
import type { Connection } from './network.ts';
import { LEADER } from './redis.ts';
import { Process } from './world.ts';

const STAND_BACK_MS = 250;
const RETRY_MS = 500;
/** Between two looks whether a leader is connected. */
const LOOK_MS = 100;

/** One host for masters: the process on it can be killed, and another is started. */
export class SimMaster {
  readonly name: string;
  readonly #options: MasterOptions;
  #runs = 0;
  #process: Process;

  constructor(name: string, options: MasterOptions) {
    this.name = name;
    this.#options = options;
    this.#process = this.#start();
  }

  get process(): Process {
    return this.#process;
  }

  /** Dies, and is there again after that time. */
  crash(downMs: number): void {
    if (!this.#process.isAlive) return;
    const { world } = this.#options.network;
    world.log(this.#process.name, 'crashes');
    this.#process.kill();
    world.at(downMs, () => {
      this.#process = this.#start();
    });
  }

  #start(): Process {
    const { world } = this.#options.network;
    this.#runs += 1;
    const process = new Process(world, `${this.name}.${this.#runs}`);
    world.log(process.name, 'starts');
    const crash = (): void => {
      this.crash(world.random.int(50, 3000));
    };
    new MasterRun(process, this.#options, crash).standBy();
    return process;
  }
}

/** One process of a master. */
class MasterRun {
  readonly #process: Process;
  readonly #options: MasterOptions;
  readonly #crash: () => void;
  readonly #commands: Connection;
  readonly #reads: Connection;

  constructor(process: Process, options: MasterOptions, crash: () => void) {
    this.#process = process;
    this.#options = options;
    this.#crash = crash;
    this.#commands = options.network.connect(process);
    this.#reads = options.network.connect(process);
  }

  /** @param instead a lease whose holder seems to have died */
  standBy(instead?: Lease): void {
    const { leaseMs } = this.#options.timing;
    const masterId = this.#process.name as MasterId;
    this.#commands.call(
      (redis) => redis.acquireLease(masterId, leaseMs, instead, this.#commands.id),
      (lease) => {
        if (lease) this.#lead(lease);
        else this.#watchLeader();
      },
      () => {
        this.#standByIn(RETRY_MS);
      },
    );
  }

  #standByIn(delayMs: number): void {
    this.#process.after(delayMs, () => {
      this.standBy();
    });
  }

  /**
   * Until the lease is over, given up or taken; or until its holder was not connected on two looks. Blocked, where
   * production looks every 100 ms: nothing can be seen that Redis would not wake this for.
   */
  #watchLeader(): void {
    this.#commands.call(
      (redis) => redis.leader(),
      (leader) => {
        if (!leader) this.standBy();
        else this.#waitForChange(leader, leader.remainingMs + 1);
      },
    );
  }

  #waitForChange(leader: Lease, forMs: number): void {
    const host = this.#reads;
    this.#reads.read(
      { key: LEADER, forMs },
      (redis) => {
        if (redis.leader()?.epoch !== leader.epoch) return ['changed' as const];
        return host.host.redis.isLeaderGone(leader) ? ['gone' as const] : [];
      },
      ([found]) => {
        if (found === 'gone') this.#lookAgain(leader);
        else this.standBy();
      },
    );
  }

  #lookAgain({ masterId, epoch }: Lease): void {
    this.#process.after(LOOK_MS, () => {
      this.#commands.call(
        (redis) => redis.isLeaderGone({ masterId, epoch }),
        (isGone) => {
          if (isGone) this.standBy({ masterId, epoch });
          else this.#watchLeader();
        },
      );
    });
  }

  #lead(lease: Lease): void {
    new Leadership({
      ...this.#options,
      process: this.#process,
      commands: this.#commands,
      reads: this.#reads,
      crash: this.#crash,
      lease,
      onEnd: (held, end) => {
        this.#release(held, end === 'server-changed' ? 0 : STAND_BACK_MS);
      },
    }).start();
  }

  /** Does not wait for longer than a second: Redis may be away. */
  #release(lease: Lease, standBackMs: number): void {
    let isDone = false;
    const done = (): void => {
      if (!isDone) this.#standByIn(standBackMs);
      isDone = true;
    };
    this.#commands.call((redis) => {
      redis.releaseLease(lease);
    }, done);
    this.#process.after(1000, done);
  }
}
