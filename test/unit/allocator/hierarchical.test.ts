import { describe, expect, test } from '@jest/globals';
import { problemOfGrants } from '../../../master/core/allocator/check.ts';
import { allocateHierarchically } from '../../../master/core/allocator/hierarchical.ts';
import type { Scene } from '../../support/rounds.ts';
import { amount } from '../../support/builders.ts';
import { ledgerOf, roundOf } from '../../support/rounds.ts';

function allocate(scene: Scene): Record<string, string[]> {
  const round = roundOf(scene);
  const grants = allocateHierarchically(round);
  expect(problemOfGrants(round, grants)).toBeUndefined();
  return ledgerOf(grants);
}

/** A framework that needs any number of these. */
function wants(cpus: number, memMib: number, role = '*'): Scene['frameworks'][string] {
  return { role, needs: [{ resources: amount(cpus, memMib) }] };
}

describe('dominant resource fairness', () => {
  test('ends where the example of the paper ends', () => {
    // Ghodsi et al., NSDI 2011, section 4.1, figure 2: 9 CPUs and 18 GB; a task of A needs <1, 4>, one of B <3, 1>.
    //   step   who   A holds    share          B holds   share
    //    1      A    <1,  4>    4/18 = 0.22    <0, 0>    0
    //    2      B    <1,  4>    4/18 = 0.22    <3, 1>    3/9 = 0.33
    //    3      A    <2,  8>    8/18 = 0.44    <3, 1>    3/9 = 0.33
    //    4      B    <2,  8>    8/18 = 0.44    <6, 2>    6/9 = 0.67
    //    5      A    <3, 12>   12/18 = 0.67    <6, 2>    6/9 = 0.67
    //   Then no CPU is left: 3 + 6 = 9.
    expect(
      allocate({ agents: { a1: amount(9, 18) }, frameworks: { A: wants(1, 4), B: wants(3, 1) } }),
    ).toEqual({
      A: ['a1 3 12'],
      B: ['a1 6 2'],
    });
  });

  test('gives a role of weight 2 twice what one of weight 1 gets', () => {
    expect(
      allocate({
        agents: { a1: amount(9, 9000) },
        frameworks: { A: wants(1, 100, 'a'), B: wants(1, 100, 'b') },
        roles: { a: { weight: 2 } },
      }),
    ).toEqual({ 'A a': ['a1 6 600'], 'B b': ['a1 3 300'] });
  });

  test('divides between roles first, and between the frameworks of a role then', () => {
    // a has two frameworks, b one: a 4 = 2 + 2, b 4.
    expect(
      allocate({
        agents: { a1: amount(8, 8000) },
        frameworks: { A1: wants(1, 1, 'a'), A2: wants(1, 1, 'a'), B: wants(1, 1, 'b') },
      }),
    ).toEqual({ 'A1 a': ['a1 2 2'], 'A2 a': ['a1 2 2'], 'B b': ['a1 4 4'] });
  });

  test('counts the frameworks of a role as one among the roles below it', () => {
    // eng's own work, eng/prod and eng/test share what eng gets: 3 each.
    expect(
      allocate({
        agents: { a1: amount(9, 9000) },
        frameworks: {
          A: wants(1, 1, 'eng'),
          B: wants(1, 1, 'eng/prod'),
          C: wants(1, 1, 'eng/test'),
        },
      }),
    ).toEqual({ 'A eng': ['a1 3 3'], 'B eng/prod': ['a1 3 3'], 'C eng/test': ['a1 3 3'] });
  });

  test('counts what a role holds by frameworks that want nothing now', () => {
    expect(
      allocate({
        agents: { a1: { total: amount(8, 8), free: amount(4, 8) } },
        frameworks: { A: wants(1, 0, 'a'), B: wants(1, 0, 'b') },
        roles: { a: { own: amount(4, 0) } },
      }),
    ).toEqual({ 'B b': ['a1 4 0'] });
  });
});

describe('a limit', () => {
  test('holds for all frameworks of a role together, and for the roles below', () => {
    expect(
      allocate({
        agents: { a1: amount(8, 8000), a2: amount(8, 8000) },
        frameworks: { A: wants(1, 1, 'a'), B: wants(1, 1, 'a/b'), C: wants(1, 1, 'c') },
        roles: { a: { limit: { cpuMillis: 4000 } } },
      }),
    ).toEqual({
      'A a': ['a1 2 2'],
      'B a/b': ['a1 2 2'],
      'C c': ['a1 4 4', 'a2 8 8'],
    });
  });

  test('cuts what a framework is offered that takes everything', () => {
    expect(
      allocate({
        agents: { a1: amount(8, 8000) },
        frameworks: { A: { role: 'a' } },
        roles: { a: { limit: { cpuMillis: 3000, memMib: 1000 } } },
      }),
    ).toEqual({ 'A a': ['a1 3 1000'] });
  });

  test('that is exhausted leaves everything to others', () => {
    expect(
      allocate({
        agents: { a1: amount(8, 8000) },
        frameworks: { A: { role: 'a', holds: amount(3, 1) }, B: {} },
        roles: { a: { limit: { cpuMillis: 3000 } } },
      }),
    ).toEqual({ B: ['a1 8 8000'] });
  });
});

describe('a guarantee', () => {
  test('is met before anything else is given', () => {
    // a holds less than b by nothing, but b is owed 6.
    expect(
      allocate({
        agents: { a1: amount(8, 8000) },
        frameworks: { A: wants(1, 1, 'a'), B: wants(1, 1, 'b') },
        roles: { b: { guarantee: { cpuMillis: 6000 } } },
      }),
    ).toEqual({ 'A a': ['a1 2 2'], 'B b': ['a1 6 6'] });
  });

  test('is kept free while its role wants nothing', () => {
    expect(
      allocate({
        agents: { a1: amount(4, 4000), a2: amount(4, 4000) },
        frameworks: { A: wants(1, 1, 'a') },
        roles: { b: { guarantee: { cpuMillis: 6000 } } },
      }),
    ).toEqual({ 'A a': ['a1 2 2'] });
  });

  test('of a role includes those of the roles below it', () => {
    // eng is promised 6, eng/prod 4 of them: eng/test may have 2, and other roles 2 of the 8.
    expect(
      allocate({
        agents: { a1: amount(8, 8000) },
        frameworks: { T: wants(1, 1, 'eng/test'), O: wants(1, 1, 'other') },
        roles: {
          eng: { guarantee: { cpuMillis: 6000 } },
          'eng/prod': { guarantee: { cpuMillis: 4000 } },
        },
      }),
    ).toEqual({ 'O other': ['a1 2 2'], 'T eng/test': ['a1 2 2'] });
  });
});

describe('filters', () => {
  test('leave to the others what a framework has declined', () => {
    expect(
      allocate({
        agents: { a1: amount(4, 4) },
        frameworks: { A: { declined: { a1: amount(4, 4) } }, B: {} },
      }),
    ).toEqual({ B: ['a1 4 4'] });
  });

  test('do not hide more than was declined', () => {
    expect(
      allocate({
        agents: { a1: amount(4, 4) },
        frameworks: { A: { declined: { a1: amount(3, 4) } } },
      }),
    ).toEqual({ A: ['a1 4 4'] });
  });

  test('are held against the whole portion: who would get less with others than it has declined leaves it to them', () => {
    // Alone A would get 4; with B 2, which it has declined.
    expect(
      allocate({
        agents: { a1: amount(4, 1000) },
        frameworks: {
          A: { needs: [{ resources: amount(1, 1), count: 4 }], declined: { a1: amount(2, 2) } },
          B: { needs: [{ resources: amount(1, 1), count: 4 }] },
        },
      }),
    ).toEqual({ B: ['a1 4 4'] });
  });
});
