/**
 * Directories of reservations between a master's core and an agent's, whatever happens and in whichever order: nothing is
 * removed that nobody wanted to be removed, nor under a task; and what is on the disk when all is quiet is reserved.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { AgentEffect, AgentEvent } from '../../agent/core/events.ts';
import { recoveredEntry } from '../../agent/core/recovery.ts';
import type { AgentState, AgentTaskEntry } from '../../agent/core/state.ts';
import { createAgentState, registrationOf } from '../../agent/core/state.ts';
import { step } from '../../agent/core/step.ts';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { ReservationId } from '../../protocol/ids.ts';
import type { Reservation } from '../../protocol/reservations.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { agentIdOf, agentInfo, amount, sessionOf, taskInfo } from '../support/builders.ts';
import type { MasterBench } from '../support/master-bench.ts';
import { createMasterBench } from '../support/master-bench.ts';

const RUNS = { numRuns: 300 };
const ID = agentIdOf('a1');
const AGENT = { resources: { ...amount(8, 8192), others: { disk: 8000 } } };
const PART = { ...amount(1, 1024), others: { disk: 1000 } };
const TASK = { ...amount(0.5, 128), others: { disk: 300 } };

type Action =
  | { readonly do: 'reserve'; readonly role: string }
  | { readonly do: 'unreserve'; readonly pick: number; readonly destroy: boolean }
  | { readonly do: 'launch' | 'end' | 'remove' | 'fail to remove'; readonly pick: number }
  | { readonly do: 'restart'; readonly isHalfRemoved: boolean }
  | { readonly do: 'give up' | 'reconnect' | 'lose all' | 'disconnect' };

/** Soon, or nothing would happen. */
const RECONNECT = Array.from({ length: 6 }, () => 'reconnect' as const);
const anyPick = fc.nat(50);
const anyAction: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      role: fc.constantFrom('eng', 'eng/prod'),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('unreserve' as const),
      pick: anyPick,
      destroy: fc.boolean(),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constantFrom('launch', 'launch', 'end', 'end', 'remove', 'fail to remove'),
      pick: anyPick,
    }),
  },
  fc.record({ do: fc.constant('restart' as const), isHalfRemoved: fc.boolean() }),
  fc.record({ do: fc.constantFrom('give up', 'lose all', 'disconnect', ...RECONNECT) }),
);

/** One master, one agent, one framework, and what is on the disk of the agent. */
class World {
  bench: MasterBench;
  agent: AgentState;
  readonly disk = new Map<ReservationId, Reservation>();
  /** Removals that are under way. */
  readonly removing = new Set<ReservationId>();
  /** Of which somebody has said that they are to go. */
  readonly unwanted = new Set<ReservationId>();
  #sessions = 0;
  #tasks = 0;
  #isConnected = false;

  constructor() {
    this.bench = this.#newMaster(1);
    this.agent = this.#newAgent();
    this.register();
  }

  #newMaster(epoch: number): MasterBench {
    const bench = createMasterBench({}, epoch);
    bench.registerFramework('f1', { role: 'eng/prod', failoverTimeoutMs: 1e9 });
    return bench;
  }

  #newAgent(): AgentState {
    const agent = createAgentState({ agentId: ID, agentTag: 'a1', hostname: 'n1' });
    for (const [id, reservation] of this.disk) agent.directories.set(id, reservation);
    return agent;
  }

  /** In a session of its own; what the master says is heard at once. */
  register(): void {
    this.#isConnected = true;
    const session = `s${String((this.#sessions += 1)).padStart(6, '0')}`;
    const said = registrationOf(this.agent);
    const { resources } = AGENT;
    const message = { agent: agentInfo('a1', { resources }), session: sessionOf(session) };
    this.hear(
      this.bench.say(
        'agent:a1',
        { type: 'RegisterAgent', ...message, node: 'n1', ...said },
        session,
      ),
    );
  }

  hear(effects: readonly MasterEffect[]): void {
    if (!this.#isConnected) return;
    for (const effect of effects) {
      if (effect.type === 'send' && effect.client === 'agent:a1') {
        this.happen({ type: 'message', message: effect.message });
      }
    }
  }

  happen(event: AgentEvent): void {
    for (const effect of step(this.agent, event, this.bench.nowMs)) this.#perform(effect);
  }

  #perform(effect: AgentEffect): void {
    if (effect.type === 'directory.note') {
      this.disk.set(effect.reservation.reservationId, effect.reservation);
    } else if (effect.type === 'directory.remove') {
      expect(this.#inUse()).not.toContain(effect.reservationId);
      this.removing.add(effect.reservationId);
    } else if (effect.type === 'task.start') {
      this.happen({ type: 'unit.started', ...effect.entry });
    } else if (effect.type === 'unit.signal') {
      this.end(effect.entry as AgentTaskEntry);
    } else if (effect.type === 'message.send' && this.#isConnected) {
      this.hear(this.bench.say('agent:a1', effect.message));
    }
  }

  live(): AgentTaskEntry[] {
    return [...this.agent.tasks.values()].filter(({ state }) => !isTerminal(state));
  }

  #inUse(): ReservationId[] {
    return this.live().flatMap(({ task }) => task.directories ?? []);
  }

  end({ key, launchId }: AgentTaskEntry): void {
    const ended = { result: 'success', certificate: { exitCode: 0 } };
    this.happen({ type: 'unit.ended', key, launchId, ended });
  }

  act(action: Action): void {
    switch (action.do) {
      case 'reserve':
        this.#wish({ type: 'Reserve', role: action.role, resources: PART, labels: {} });
        return;
      case 'unreserve':
        this.#unreserve(action.pick, action.destroy);
        return;
      case 'launch':
        this.#launch(action.pick);
        return;
      case 'end': {
        const entry = pickOf(this.live(), action.pick);
        if (entry) this.end(entry);
        return;
      }
      case 'remove':
      case 'fail to remove':
        this.finish(pickOf([...this.removing], action.pick), action.do === 'remove');
        return;
      case 'restart':
        this.#restart(action.isHalfRemoved);
        return;
      default:
        this.#disturb(action.do);
    }
  }

  #disturb(what: 'give up' | 'reconnect' | 'lose all' | 'disconnect'): void {
    switch (what) {
      case 'give up':
        // The agent is cut off, an operator gives it up, and its tasks go on.
        this.#isConnected = false;
        this.bench.say('operator:ann', { type: 'MarkAgentGone', agentId: ID });
        return;
      case 'disconnect':
        this.#isConnected = false;
        this.bench.silence('agent:a1');
        return;
      case 'reconnect':
        this.register();
        return;
      case 'lose all':
        this.bench = this.#newMaster(this.bench.state.epoch + 1);
        this.register();
        return;
      default:
        what satisfies never;
    }
  }

  #wish(
    wish:
      | { type: 'Reserve'; role: string; resources: typeof PART; labels: Record<string, never> }
      | { type: 'Unreserve'; reservationId: ReservationId; destroy: boolean },
  ): void {
    const ids = { requestId: sessionOf('w'), agentId: ID };
    this.hear(this.bench.say('operator:ann', { ...ids, ...wish }));
  }

  #unreserve(pick: number, destroy: boolean): void {
    const record = this.bench.state.agents.get(ID)?.record;
    const reservation = pickOf([...(record?.reservations ?? [])], pick);
    if (!reservation) return;
    const { reservationId } = reservation;
    if (destroy) this.unwanted.add(reservationId);
    this.#wish({ type: 'Unreserve', reservationId, destroy });
    const isLeft = this.bench.state.agents
      .get(ID)
      ?.record.reservations?.some((one) => one.reservationId === reservationId);
    // Refused: it is wanted after all.
    if (isLeft === true) this.unwanted.delete(reservationId);
  }

  #launch(pick: number): void {
    const offers = [...this.bench.state.offers.values()];
    const reserved = offers.filter(({ reservation }) => reservation);
    const offer = pickOf(reserved.length > 0 ? reserved : offers, pick);
    if (!offer) return;
    this.#tasks += 1;
    const task = taskInfo(`t${String(this.#tasks)}`, { resources: TASK });
    this.hear(this.bench.launch('f1', offer.offerId, [task]));
  }

  finish(reservationId: ReservationId | undefined, isDone: boolean): void {
    if (reservationId === undefined) return;
    this.removing.delete(reservationId);
    if (isDone) this.#removeFromDisk(reservationId);
    const type = isDone ? 'directory.removed' : 'directory.removal-failed';
    this.happen({ type, reservationId });
  }

  #removeFromDisk(reservationId: ReservationId): void {
    expect(this.unwanted).toContain(reservationId);
    expect(this.#inUse()).not.toContain(reservationId);
    this.disk.delete(reservationId);
  }

  /** The agent is killed; the next one finds its tasks, and what was on its way out is there no more, or still is. */
  #restart(isHalfRemoved: boolean): void {
    if (isHalfRemoved) for (const id of this.removing) this.#removeFromDisk(id);
    this.removing.clear();
    const entries = this.live();
    this.agent = this.#newAgent();
    for (const { framework, detached, task, launchId, unit } of entries) {
      const entry = recoveredEntry({ framework, detached, task, launchId, unit });
      this.agent.tasks.set(entry.key, entry);
      step(this.agent, { type: 'unit.started', ...entry }, this.bench.nowMs);
    }
    this.register();
  }
}

function pickOf<T>(items: readonly T[], pick: number): T | undefined {
  return items[pick % Math.max(1, items.length)];
}

/** Everybody hears everything, all tasks end, and what is to go goes. */
function settle(world: World): void {
  world.register();
  for (const entry of world.live()) world.end(entry);
  world.happen({ type: 'tick' });
  world.bench.nowMs += 100_000;
  world.happen({ type: 'tick' });
  for (const id of [...world.removing]) world.finish(id, true);
}

describe('directories of reservations', () => {
  test('are removed if that was wanted and no task has them, and else stay and stay reserved', () => {
    let removals = 0;
    fc.assert(
      fc.property(fc.array(anyAction, { maxLength: 60, size: 'max' }), (actions) => {
        const world = new World();
        const seen = new Set<ReservationId>();
        for (const action of actions) {
          world.act(action);
          for (const id of world.disk.keys()) seen.add(id);
          for (const { task } of world.live()) {
            for (const id of task.directories ?? []) expect([...world.disk.keys()]).toContain(id);
          }
        }
        settle(world);
        const record = world.bench.state.agents.get(ID)?.record;
        const reserved = (record?.reservations ?? []).map(({ reservationId }) => reservationId);
        expect(record?.doomed ?? []).toEqual([]);
        expect(reserved).toEqual(expect.arrayContaining([...world.disk.keys()]));
        for (const id of seen) {
          if (world.disk.has(id)) continue;
          expect(world.unwanted).toContain(id);
          removals += 1;
        }
      }),
      RUNS,
    );
    // Or it would show nothing.
    expect(removals).toBeGreaterThan(20);
  });
});
