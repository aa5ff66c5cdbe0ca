/** One term of a simulated master: the production core and the production commit, called as `master/leadership.ts` does. */
import { silentLog } from '../../io/log.ts';
import type { CommitResult, InboxEntry, Lease, SilentClient, StreamId } from '../../io/store.ts';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterState } from '../../master/core/state.ts';
import { loadRecords } from '../../master/core/books.ts';
import {
  createMasterState,
  isAllocationDue,
  MASTER_OPTIONS_DEFAULT,
  takeChanges,
} from '../../master/core/state.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import { offerResources } from '../../master/core/step.ts';
import { buildCommit } from '../../master/effects.ts';
import { decodeSnapshot, unreadableClients } from '../../master/load.ts';
import { decodeEntry } from '../../protocol/codec.ts';
import { describeEvent, describeMessage } from './describe.ts';
import type { MasterSeams } from './mutation.ts';
import type { Connection, Network } from './network.ts';
import { INBOX } from './redis.ts';
import type { Timing } from './timing.ts';
import type { Process } from './world.ts';

const LIVENESS_MS = 1000;
const BATCH_ENTRIES = 1000;
const TERM_CHARS = 6;

export interface MasterOptions {
  readonly network: Network;
  readonly timing: Timing;
  readonly seams: MasterSeams;
  /** The leader's own state after each batch: for the checker of its books. */
  readonly onBatch: (state: MasterState) => void;
}

export type TermEnd = 'lost' | 'server-changed';

export interface LeadershipOptions extends MasterOptions {
  readonly process: Process;
  readonly commands: Connection;
  readonly reads: Connection;
  readonly crash: () => void;
  readonly lease: Lease;
  readonly onEnd: (lease: Lease, end: TermEnd) => void;
}

export class Leadership {
  readonly #options: LeadershipOptions;
  readonly #state: MasterState;
  #lease: Lease;
  #end: TermEnd | undefined;
  #cursor: StreamId = '0-0';
  #commitNumber = 0;
  #isCommitting = false;
  /** What waits for the commit that is on its way. */
  #afterCommit: (() => void) | undefined;
  #events: MasterEvent[] = [];
  #timeOffsetMs = 0;
  #nowMs = 0;
  #leadingSinceMs = 0;
  #tickAtMs = 0;
  #livenessAtMs = 0;
  #renewedAtMs: number;

  constructor(options: LeadershipOptions) {
    this.#options = options;
    const { lease, network, timing } = options;
    this.#lease = lease;
    const term = network.world.random.name(TERM_CHARS);
    this.#state = createMasterState(
      { ...lease, term },
      {
        ...MASTER_OPTIONS_DEFAULT,
        offerTimeoutMs: timing.offerTimeoutMs,
        agentTimeoutMs: timing.agentTimeoutMs,
        agentRemovalsPerMinute: 30,
        unreachableShareMax: 0.5,
      },
    );
    this.#renewedAtMs = network.world.nowMs;
  }

  start(): void {
    const { commands, network, seams } = this.#options;
    this.#keepLease();
    const askedAtMs = network.world.nowMs;
    commands.call(
      (redis) => redis.beginTerm(this.#lease),
      (term) => {
        if (!term.ok) this.#stop('lost', 'its lease was gone before it began');
        else this.#timeOffsetMs = term.storeMs - askedAtMs;
        if (this.#finishIfStopped()) return;
        this.#load(term.ok && seams.noticesDataLoss ? term.lostBefore : undefined);
      },
    );
  }

  #load(lostBefore: number | undefined): void {
    const isDataLost = lostBefore !== undefined;
    this.#options.commands.call(
      (redis) => redis.loadSnapshot(),
      (snapshot) => {
        const records = decodeSnapshot(snapshot, silentLog);
        loadRecords(this.#state, records);
        this.#cursor = snapshot.cursor;
        this.#commitNumber = snapshot.commitNumber;
        this.#leadingSinceMs = this.#now();
        if (isDataLost || records.bad.length > 0) {
          const unreadable = unreadableClients(records.bad);
          const from = isDataLost ? { lostBefore } : {};
          this.#events.push({ type: 'data.lost', unreadable, ...from });
        }
        this.#log(
          () =>
            `leads epoch ${this.#state.epoch} from commit ${this.#commitNumber}, ${this.#state.tasks.size} tasks, data lost: ${isDataLost}`,
        );
        this.#batch();
      },
    );
  }

  #keepLease(): void {
    const { process, commands, timing, network } = this.#options;
    const { world } = network;
    process.after(timing.leaseMs / 6, () => {
      if (this.#end) return;
      const sentAtMs = world.nowMs;
      const deadlineMs = this.#renewedAtMs + (timing.leaseMs * 2) / 3;
      let isAnswered = false;
      commands.call(
        (redis) => redis.renewLease(this.#lease, timing.leaseMs, commands.id),
        (storeMs) => {
          if (isAnswered) return;
          isAnswered = true;
          if (typeof storeMs === 'number') {
            this.#renewedAtMs = sentAtMs;
            this.#timeOffsetMs = storeMs - sentAtMs;
            this.#keepLease();
          } else this.#stop(storeMs ?? 'lost', 'its lease is gone');
        },
      );
      process.after(deadlineMs - sentAtMs, () => {
        if (!isAnswered) this.#stop('lost', 'its lease was not renewed in time');
        isAnswered = true;
      });
    });
  }

  #stop(end: TermEnd, why: string): void {
    if (this.#end) return;
    this.#log(() => `stops leading: ${why}`);
    this.#end = end;
  }

  /** @returns true if the term is over */
  #finishIfStopped(): boolean {
    const end = this.#end;
    if (!end) return false;
    this.#whenCommitted(() => {
      this.#options.onEnd(this.#lease, end);
    });
    return true;
  }

  #batch(): void {
    if (this.#finishIfStopped()) return;
    const dueAtMs = this.#isQuiet() ? this.#livenessAtMs : this.#tickAtMs;
    const forMs = isAllocationDue(this.#state) ? 0 : Math.max(1, dueAtMs - this.#now());
    this.#options.reads.read(
      { key: INBOX, forMs },
      (redis) => redis.readInbox(this.#cursor, BATCH_ENTRIES),
      (entries) => {
        if (this.#end) this.#batch();
        else this.#process(entries);
      },
    );
  }

  /** Nothing runs out: a tick would change nothing, so none is made but for the look at who is silent. */
  #isQuiet(): boolean {
    const { offers, cluster, agents, frameworks } = this.#state;
    if (offers.size > 0 || cluster.recoveringUntilMs > 0 || this.#events.length > 0) return false;
    for (const { record } of agents.values())
      if (record.state !== 'active' || record.session === undefined) return false;
    for (const { record, filters } of frameworks.values())
      if (record.state === 'disconnected' || filters.size > 0) return false;
    return true;
  }

  #process(entries: readonly InboxEntry[]): void {
    const nowMs = this.#now();
    const effects: MasterEffect[] = [];
    for (const event of this.#events.splice(0)) this.#step(event, nowMs, effects);
    for (const entry of entries) this.#stepEntry(entry, nowMs, effects);
    if (nowMs >= this.#tickAtMs) {
      this.#tickAtMs = nowMs + this.#options.timing.masterTickMs;
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
      this.#log(() => `<- ${from} ${describeMessage(decoded.value)}`);
      this.#step({ type: 'message', from, session, message: decoded.value }, nowMs, effects);
    }
  }

  #step(event: MasterEvent, nowMs: number, effects: MasterEffect[]): void {
    effects.push(...this.#options.seams.step(this.#state, event, nowMs));
  }

  /** Nobody is called silent before this leader has listened for the whole timeout. */
  #lookForSilent(nowMs: number, effects: MasterEffect[], then: () => void): void {
    if (nowMs < this.#livenessAtMs) {
      then();
      return;
    }
    this.#livenessAtMs = nowMs + LIVENESS_MS;
    const { commands, timing } = this.#options;
    const { agentTimeoutMs, frameworkTimeoutMs } = timing;
    const listenedMs = nowMs - this.#leadingSinceMs;
    if (listenedMs < Math.min(agentTimeoutMs, frameworkTimeoutMs)) {
      then();
      return;
    }
    const isSilent = ({ client, seenMs }: SilentClient): boolean => {
      const timeoutMs = client.startsWith('agent:') ? agentTimeoutMs : frameworkTimeoutMs;
      return listenedMs >= timeoutMs && seenMs < nowMs - timeoutMs;
    };
    commands.call(
      (redis) => redis.silentClients(nowMs - Math.min(agentTimeoutMs, frameworkTimeoutMs)),
      (clients) => {
        this.#step({ type: 'clients.silent', clients: clients.filter(isSilent) }, nowMs, effects);
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
      if (this.#end) this.#batch();
      else if (this.#state.epoch > this.#lease.epoch) this.#raiseEpoch(effects, changes);
      else this.#sendCommit(effects, changes);
    });
  }

  #raiseEpoch(effects: readonly MasterEffect[], changes: ReturnType<typeof takeChanges>): void {
    const before = this.#lease;
    const { epoch } = this.#state;
    this.#log(() => `raises its epoch from ${before.epoch} to ${epoch}`);
    // At once and not with the answer, as in production.
    this.#lease = { masterId: before.masterId, epoch };
    const lost = (): void => {
      this.#stop('lost', 'its lease was gone when its epoch was to be raised');
      this.#batch();
    };
    this.#options.commands.call(
      (redis) => redis.raiseEpoch(before, epoch),
      (raised) => {
        if (raised && !this.#end) this.#sendCommit(effects, changes);
        else lost();
      },
      lost,
    );
  }

  #sendCommit(effects: readonly MasterEffect[], changes: ReturnType<typeof takeChanges>): void {
    const { commands, network, crash } = this.#options;
    this.#commitNumber += 1;
    const position = { lease: this.#lease, number: this.#commitNumber, cursor: this.#cursor };
    const commit = buildCommit(position, effects, changes);
    this.#logCommit(effects, `commit ${commit.number}, cursor ${commit.cursor}`);
    this.#isCommitting = true;
    commands.call(
      (redis) => redis.commit(commit),
      (result) => {
        this.#committed(result);
      },
      () => {
        this.#committed({ ok: false, code: 'fenced', found: 'no memory' });
      },
    );
    if (network.world.random.chance(network.faults.masterCrashAtCommit)) crash();
    this.#batch();
  }

  #committed(result: CommitResult): void {
    this.#isCommitting = false;
    if (result.ok) {
      if (result.overflowing.length > 0)
        this.#events.push({ type: 'clients.overflowing', clients: result.overflowing });
    } else {
      const end = result.code === 'server-changed' ? result.code : 'lost';
      this.#stop(end, `commit refused: ${result.code}, found ${result.found}`);
    }
    const then = this.#afterCommit;
    this.#afterCommit = undefined;
    then?.();
  }

  #whenCommitted(then: () => void): void {
    if (this.#isCommitting) this.#afterCommit = then;
    else then();
  }

  /** The store's time; it never goes back. */
  #now(): number {
    const nowMs = Math.round(this.#options.network.world.nowMs + this.#timeOffsetMs);
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    return this.#nowMs;
  }

  #logCommit(effects: readonly MasterEffect[], what: string): void {
    if (!this.#options.network.world.isLogged) return;
    for (const effect of effects) {
      if (effect.type === 'event.append') this.#log(`   ${describeEvent(effect.event)}`);
      if (effect.type === 'message.ignore')
        this.#log(`   ignores ${effect.messageType} of ${effect.from}: ${effect.reason}`);
    }
    this.#log(what);
  }

  #log(what: string | (() => string)): void {
    this.#options.network.world.log(this.#options.process.name, what);
  }
}
