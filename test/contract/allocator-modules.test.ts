/** Allocators that the master loads: by name, as a module of a user's own, and those that are of no use. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAllocator } from '../../master/allocators.ts';
import { problemOfGrants } from '../../master/core/allocator/check.ts';
import { amount } from '../support/builders.ts';
import { createMasterBench, eventsOf } from '../support/master-bench.ts';
import { ledgerOf, roundOf } from '../support/rounds.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-allocators-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function moduleOf(name: string, text: string): string {
  const path = join(directory, `${name}.mjs`);
  writeFileSync(path, text);
  return path;
}

const round = roundOf({
  agents: { a1: amount(4, 4096), a2: amount(4, 4096) },
  frameworks: { f1: {}, f2: {} },
});

describe('an allocator', () => {
  test.each(['drf', 'fifo'])('that comes with Kaon is found by its name: %s', async (name) => {
    const grants = (await loadAllocator(name))(round);
    expect(problemOfGrants(round, grants)).toBeUndefined();
    expect(grants.length).toBeGreaterThan(0);
  });

  test('by registration gives all to who came first, a fair one does not', async () => {
    const scene = {
      agents: { a1: amount(4, 4096), a2: amount(4, 4096) },
      frameworks: { f1: { registeredAtMs: 2 }, f2: { registeredAtMs: 1 } },
    };
    expect(ledgerOf((await loadAllocator('fifo'))(roundOf(scene)))).toEqual({
      f2: ['a1 4 4096', 'a2 4 4096'],
    });
    expect(ledgerOf((await loadAllocator('drf'))(roundOf(scene)))).toEqual({
      f2: ['a1 4 4096'],
      f1: ['a2 4 4096'],
    });
  });

  test('of a user is a module: the example goes round the frameworks', async () => {
    const allocate = await loadAllocator('./examples/allocator/in-turn.mjs');
    const grants = allocate(round);
    expect(problemOfGrants(round, grants)).toBeUndefined();
    expect(ledgerOf(grants)).toEqual({ f1: ['a1 4 4096'], f2: ['a2 4 4096'] });
  });

  test('of a user is a module: the example heeds where units may not be', async () => {
    const allocate = await loadAllocator('./examples/allocator/in-turn.mjs');
    const unit = { resources: amount(1, 1), count: 3 };
    const particular = roundOf({
      agents: { a1: amount(4, 4), a2: amount(4, 4), a3: amount(4, 4) },
      frameworks: {
        f1: { needs: [{ ...unit, notOn: ['a1'], maxPerAgent: 1, offeredOn: { a2: 1 } }] },
        f2: { needs: [{ ...unit, gang: true }] },
      },
    });
    const grants = allocate(particular);
    expect(problemOfGrants(particular, grants)).toBeUndefined();
    expect(ledgerOf(grants)).toEqual({ f1: ['a3 1 1'] });
  });

  test.each([
    ['nosuch', /no allocator "nosuch"/],
    ['./nosuch.mjs', /cannot load the allocator .*nosuch\.mjs/],
    ['constructor', /no allocator "constructor"/],
  ])('that is not there is refused: %s', async (wanted, words) => {
    await expect(loadAllocator(wanted)).rejects.toThrow(words);
  });

  test('whose module does not export one is refused, and one that cannot be read', async () => {
    await expect(loadAllocator(moduleOf('none', 'export const x = 1;'))).rejects.toThrow(
      /no function as its default export/,
    );
    await expect(loadAllocator(moduleOf('odd', 'export default {'))).rejects.toThrow(/cannot load/);
  });
});

describe('a module', () => {
  test('that never comes back is ended, and the master goes on', async () => {
    const path = moduleOf('endless', 'export default () => { for (;;); };');
    const bench = createMasterBench({ allocator: await loadAllocator(path, 50) });
    bench.registerFramework('f1');
    const [refused] = eventsOf(bench.registerAgent('a1')).filter(
      ({ type }) => type === 'allocation.refused',
    );
    expect(refused?.message).toMatch(/timed out after 50ms.*nothing of this round is offered/s);
    bench.registerAgent('a2');
    expect(bench.state.agents.size).toBe(2);
  });

  test('cannot change what it is shown', async () => {
    const path = moduleOf(
      'greedy',
      `export default (round) => {
        const [agent] = round.agents;
        agent.total.cpuMillis = 1e9;
        return [];
      };`,
    );
    const allocate = await loadAllocator(path);
    expect(() => allocate(round)).toThrow(/read only|Cannot assign/);
    expect(round.agents[0]?.total).toEqual(amount(4, 4096));
  });

  test('cannot talk itself out of a limit', async () => {
    const path = moduleOf(
      'sly',
      `export default (round) => {
        round.roles.clear();
        return round.agents.map(({ agentId, free }) => {
          return { frameworkId: 'f1', role: 'ci', agentId, resources: free };
        });
      };`,
    );
    const limited = roundOf({
      agents: { a1: amount(4, 4096) },
      frameworks: { f1: { role: 'ci' } },
      roles: { ci: { limit: { cpuMillis: 1000 } } },
    });
    const grants = (await loadAllocator(path))(limited);
    expect(problemOfGrants(limited, grants)).toMatch(/role ci would hold 4 cpus/);
  });
});
