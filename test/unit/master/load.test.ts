/** What a new leader does before its first decision: reads a registry of any size, and knows whom to listen to. */
import { describe, expect, test } from '@jest/globals';
import { silentLog } from '../../../io/log.ts';
import type { Snapshot } from '../../../io/store.ts';
import { loadRecords } from '../../../master/core/books.ts';
import { takeChanges } from '../../../master/core/state.ts';
import { step } from '../../../master/core/step.ts';
import { decodeInParts, decodeSnapshot } from '../../../master/load.ts';
import { REGISTRY_FORMAT } from '../../../protocol/records.ts';
import { numberedSession, sessionNumberAt } from '../../../protocol/ids.ts';
import { agentIdOf } from '../../support/builders.ts';
import { createMasterBench } from '../../support/master-bench.ts';

function snapshotWithAgents(count: number): Snapshot {
  const agents = new Map<string, string>();
  for (let index = 0; index < count; index += 1) {
    const info = { agentId: `a${index}`, hostname: 'n', attributes: {} };
    const record = {
      info: { ...info, resources: { cpuMillis: 1000, memMib: 64 } },
      newestSession: 's1',
      node: 'n1',
      // Every 700th is bad: some before the schema is compiled, some after.
      state: index % 700 === 1 ? 'odd' : 'unreachable',
      registeredAtMs: 1,
      writtenOff: [],
    };
    agents.set(`a${index}`, JSON.stringify(record));
  }
  const none = new Map<string, string>();
  const empty = {
    cluster: none,
    roles: none,
    frameworks: none,
    offers: none,
    executors: none,
    tasks: none,
  };
  const registry = { ...empty, agents };
  return { commitNumber: 1, cursor: '0-0', registry, heard: none };
}

describe('a registry', () => {
  test('is decoded a thousand records at a time, so that the lease is renewed meanwhile', () => {
    const snapshot = snapshotWithAgents(2500);
    const parts = [...decodeInParts(snapshot, silentLog)];
    expect(parts).toHaveLength(2);
  });

  test('that fits in one part is decoded without a pause', () => {
    expect([...decodeInParts(snapshotWithAgents(1000), silentLog)]).toEqual([]);
  });

  test('has every record checked, however many there are, and bad ones said in the same words', () => {
    const { agents, bad } = decodeSnapshot(snapshotWithAgents(2500), silentLog);
    expect(agents).toHaveLength(2496);
    expect(bad.map(({ key }) => key)).toEqual(['a1', 'a701', 'a1401', 'a2101']);
    expect(new Set(bad.map(({ error }) => error)).size).toBe(1);
    expect(bad[0]?.error).toContain('state');
  });
});

test('the registry of an older Kaon is marked as one that it could not read any more', () => {
  const bench = createMasterBench();
  const cluster = { format: 1, recoveringUntilMs: 0, isNew: false, tornDown: [] };
  const none = { roles: [], agents: [], frameworks: [], offers: [], executors: [], tasks: [] };
  loadRecords(bench.state, { ...none, cluster: [cluster] });
  const written = takeChanges(bench.state).find(({ registry }) => registry === 'cluster');
  expect(JSON.parse(written?.value ?? '')).toMatchObject({ format: REGISTRY_FORMAT });
});

describe('while a leader loads after a loss of data', () => {
  const registeredAfter = (openedAfterMs: number): unknown => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    const sinceMs = bench.nowMs;
    bench.nowMs += 1000; // It loads.
    const lostBefore = sessionNumberAt(sinceMs) - 1;
    step(bench.state, { type: 'data.lost', lostBefore }, bench.nowMs);
    const session = numberedSession(sessionNumberAt(sinceMs + openedAfterMs));
    bench.registerAgent('a1', { session });
    return bench.state.agents.get(agentIdOf('a1'))?.record.session === session;
  };

  test('an agent that finds out registers, and is heard', () => {
    expect(registeredAfter(500)).toBe(true);
  });

  test('a session from before that is not listened to', () => {
    expect(registeredAfter(-500)).toBe(false);
  });
});
