/**
 * A simulated master: the production core and the production commit, in a shell that does what `master/master.ts` and
 * `master/lease.ts` do, call by call, over the simulated network.
 */
import type { CommitResult, InboxEntry, Lease, StreamId } from '../../io/store.ts';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterState } from '../../master/core/state.ts';
import { createMasterState, loadRecords, takeChanges } from '../../master/core/state.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import { offerResources } from '../../master/core/step.ts';
import { buildCommit } from '../../master/effects.ts';
import { decodeSnapshot } from '../../master/load.ts';
import { silentLog } from '../../io/log.ts';
import { decodeEntry } from '../../protocol/codec.ts';
import type { MasterId } from '../../protocol/ids.ts';
import { describeEvent, describeMessage } from './describe.ts';
import type { MasterStep } from './mutation.ts';
import type { Connection, Network } from './network.ts';
import type { SimRedis } from './redis.ts';
import { Process } from './world.ts';

const LEASE_MS = 3000;
const TICK_MS = 250;
const LIVENESS_MS = 1000;
const BATCH_ENTRIES = 1000;
const OFFER_TIMEOUT_MS = 4000;
/** Short, so that a partition of some seconds is long; in proportion to the heartbeat about as in production. */
const AGENT_TIMEOUT_MS = 8000;
const FRAMEWORK_TIMEOUT_MS = 5000;

export interface MasterOptions {
  readonly network: Network;
  readonly redis: SimRedis;
  readonly step: MasterStep;
  /** The leader's own state after each batch: for the checker of its books. */
  readonly onBatch: (state: MasterState) => void;
}

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

/** One process of a master: stands by, leads, stands by. */
class MasterRun {
  readonly #process: Process;
  readonly #options: MasterOptions;
  readonly #crash: () => void;
  readonly #commands: Connection;

  constructor(process: Process, options: MasterOptions, crash: () => void) {
    this.#process = process;
    this.#options = options;
    this.#crash = crash;
    this.#commands = options.network.connect(process);
  }

  standBy(): void {
    const { redis } = this.#options;
    const masterId = this.#process.name as MasterId;
    this.#commands.call(
      () => redis.acquireLease(masterId, LEASE_MS),
      (lease) => {
        if (lease) this.#lead(lease);
        else this.#waitForLease();
      },
    );
  }

  #waitForLease(): void {
    const { redis } = this.#options;
    this.#commands.call(
      () => redis.leader(),
      (leader) => {
        const waitMs = leader ? Math.max(1, leader.remainingMs + 1) : 1;
        this.#process.after(waitMs, () => {
          this.standBy();
        });
      },
    );
  }

  #lead(lease: Lease): void {
    new Leadership({
      ...this.#options,
      process: this.#process,
      commands: this.#commands,
      crash: this.#crash,
      lease,
      onEnd: () => {
        this.#release(lease);
      },
    }).start();
  }

  /** Does not wait for longer than a second: Redis may be away. */
  #release(lease: Lease): void {
    const { redis } = this.#options;
    let isDone = false;
    const done = (): void => {
      if (!isDone) this.standBy();
      isDone = true;
    };
    this.#commands.call(() => {
      redis.releaseLease(lease);
    }, done);
    this.#process.after(1000, done);
  }
}

interface LeadershipOptions extends MasterOptions {
  readonly process: Process;
  readonly commands: Connection;
  readonly crash: () => void;
  readonly lease: Lease;
  readonly onEnd: () => void;
}

/** One term, as `Leadership` of `master/master.ts`. */
class Leadership {
  readonly #options: LeadershipOptions;
  readonly #state: MasterState;
  readonly #reads: Connection;
  #cursor: StreamId = '0-0';
  #commitNumber = 0;
  #stopped = false;
  #isCommitting = false;
  /** What waits for the commit that is on its way. */
  #afterCommit: (() => void) | undefined;
  #overflowing: readonly string[] = [];
  #leadingSinceMs = 0;
  #tickAtMs = 0;
  #livenessAtMs = 0;
  #renewedAtMs: number;

  constructor(options: LeadershipOptions) {
    this.#options = options;
    const { lease, network, process } = options;
    this.#state = createMasterState(lease, { offerTimeoutMs: OFFER_TIMEOUT_MS });
    this.#reads = network.connect(process);
    this.#renewedAtMs = this.#now();
  }

  start(): void {
    const { commands, redis } = this.#options;
    this.#keepLease();
    commands.call(
      () => redis.loadSnapshot(),
      (snapshot) => {
        loadRecords(this.#state, decodeSnapshot(snapshot, silentLog));
        this.#cursor = snapshot.cursor;
        this.#commitNumber = snapshot.commitNumber;
        this.#leadingSinceMs = this.#now();
        this.#log(
          `leads epoch ${this.#state.epoch} from commit ${this.#commitNumber}, ${this.#state.tasks.size} tasks`,
        );
        this.#batch();
      },
    );
  }

  #keepLease(): void {
    const { process, commands, redis, lease } = this.#options;
    process.after(LEASE_MS / 6, () => {
      if (this.#stopped) return;
      const sentAtMs = this.#now();
      const deadlineMs = this.#renewedAtMs + (LEASE_MS * 2) / 3;
      let isAnswered = false;
      commands.call(
        () => redis.renewLease(lease, LEASE_MS),
        (storeMs) => {
          if (isAnswered) return;
          isAnswered = true;
          if (storeMs === undefined) this.#stop('its lease is lost');
          else {
            this.#renewedAtMs = sentAtMs;
            this.#keepLease();
          }
        },
      );
      process.after(deadlineMs - sentAtMs, () => {
        if (!isAnswered) this.#stop('its lease was not renewed in time');
        isAnswered = true;
      });
    });
  }

  #stop(why: string): void {
    if (!this.#stopped) this.#log(`stops leading: ${why}`);
    this.#stopped = true;
  }

  #batch(): void {
    const { redis } = this.#options;
    if (this.#stopped) {
      this.#whenCommitted(this.#options.onEnd);
      return;
    }
    const waitMs = this.#state.allocationDue ? 0 : Math.max(1, this.#tickAtMs - this.#now());
    this.#reads.read(
      () => redis.readInbox(this.#cursor, BATCH_ENTRIES),
      waitMs,
      (entries) => {
        if (this.#stopped) this.#batch();
        else this.#process(entries);
      },
    );
  }

  #process(entries: readonly InboxEntry[]): void {
    const nowMs = this.#now();
    const effects: MasterEffect[] = [];
    for (const entry of entries) this.#stepEntry(entry, nowMs, effects);
    if (this.#overflowing.length > 0) {
      this.#step({ type: 'clients.overflowing', clients: this.#overflowing }, nowMs, effects);
      this.#overflowing = [];
    }
    if (nowMs >= this.#tickAtMs) {
      this.#tickAtMs = nowMs + TICK_MS;
      this.#step({ type: 'tick' }, nowMs, effects);
    }
    this.#lookForSilent(nowMs, effects, () => {
      effects.push(...offerResources(this.#state, nowMs));
      this.#commit(effects, entries.length > 0);
    });
  }

  #stepEntry(entry: InboxEntry, nowMs: number, effects: MasterEffect[]): void {
    this.#cursor = entry.id;
    const { from, session } = entry;
    for (const decoded of decodeEntry(entry.messages)) {
      if (!decoded.ok) throw new Error(`bad message from ${from}: ${decoded.message}`);
      this.#log(`<- ${from} ${describeMessage(decoded.value)}`);
      this.#step({ type: 'message', from, session, message: decoded.value }, nowMs, effects);
    }
  }

  #step(event: MasterEvent, nowMs: number, effects: MasterEffect[]): void {
    effects.push(...this.#options.step(this.#state, event, nowMs));
  }

  /** Nobody is called silent before this leader has listened for the whole timeout. */
  #lookForSilent(nowMs: number, effects: MasterEffect[], then: () => void): void {
    if (nowMs < this.#livenessAtMs) {
      then();
      return;
    }
    this.#livenessAtMs = nowMs + LIVENESS_MS;
    const { commands, redis } = this.#options;
    const silentFor = (kind: string, timeoutMs: number): string[] => {
      if (nowMs - this.#leadingSinceMs < timeoutMs) return [];
      return redis.silentClients(nowMs - timeoutMs).filter((client) => client.startsWith(kind));
    };
    commands.call(
      () => [
        ...silentFor('agent:', AGENT_TIMEOUT_MS),
        ...silentFor('framework:', FRAMEWORK_TIMEOUT_MS),
      ],
      (clients) => {
        this.#step({ type: 'clients.silent', clients }, nowMs, effects);
        then();
      },
    );
  }

  #commit(effects: readonly MasterEffect[], consumed: boolean): void {
    const changes = takeChanges(this.#state);
    this.#options.onBatch(this.#state);
    if (effects.length === 0 && changes.length === 0 && !consumed) {
      this.#batch();
      return;
    }
    this.#whenCommitted(() => {
      if (!this.#stopped) this.#sendCommit(effects, changes);
      this.#batch();
    });
  }

  #sendCommit(effects: readonly MasterEffect[], changes: ReturnType<typeof takeChanges>): void {
    const { commands, redis, lease, network, crash } = this.#options;
    this.#commitNumber += 1;
    const position = { lease, number: this.#commitNumber, cursor: this.#cursor };
    const commit = buildCommit(position, effects, changes);
    for (const effect of effects) {
      if (effect.type === 'event.append') this.#log(`   ${describeEvent(effect.event)}`);
      if (effect.type === 'message.ignore') {
        this.#log(`   ignores ${effect.messageType} of ${effect.from}: ${effect.reason}`);
      }
    }
    this.#log(
      `commit ${commit.number}, cursor ${commit.cursor}, ${changes.length} changes, ${commit.sends.length} sends`,
    );
    this.#isCommitting = true;
    commands.call(
      () => redis.commit(commit),
      (result) => {
        this.#committed(result);
      },
    );
    if (network.world.random.chance(network.faults.masterCrashAtCommit)) crash();
  }

  #committed(result: CommitResult): void {
    this.#isCommitting = false;
    if (result.ok) {
      if (result.overflowing.length > 0) this.#overflowing = result.overflowing;
    } else this.#stop(`commit refused: ${result.code}, found ${result.found}`);
    const then = this.#afterCommit;
    this.#afterCommit = undefined;
    then?.();
  }

  #whenCommitted(then: () => void): void {
    if (this.#isCommitting) this.#afterCommit = then;
    else then();
  }

  #now(): number {
    return Math.round(this.#options.network.world.nowMs);
  }

  #log(what: string): void {
    this.#options.network.world.log(this.#options.process.name, what);
  }
}
