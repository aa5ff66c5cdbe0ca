/**
 * Allocators by name or path. One that comes with Kaon is a function of the core; a module of a user's own is loaded, and held
 * to a time in every round.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createContext, Script } from 'node:vm';
import { KaonError } from '../protocol/errors.ts';
import { allocateInOrder } from './core/allocator/fifo.ts';
import { allocateHierarchically } from './core/allocator/hierarchical.ts';
import type { AllocationRound, Allocator, Grant } from './core/allocator/port.ts';

/** Those that come with Kaon. */
export const ALLOCATORS: Readonly<Record<string, Allocator>> = {
  drf: allocateHierarchically,
  fifo: allocateInOrder,
};
/** The name of the default. */
export const ALLOCATOR_DEFAULT = 'drf';
/** A round that takes longer would keep the master from renewing its lease in time. */
export const ALLOCATOR_TIMEOUT_DEFAULT_MS = 1000;

/**
 * @param wanted a name, or the path of a module, relative to the working directory; its default export is the allocator
 * @param timeoutMs of a round of a module
 * @throws KaonError `no-such-allocator`
 */
export async function loadAllocator(
  wanted: string,
  timeoutMs = ALLOCATOR_TIMEOUT_DEFAULT_MS,
): Promise<Allocator> {
  if (Object.hasOwn(ALLOCATORS, wanted)) return ALLOCATORS[wanted] as Allocator;
  if (!/[./]/.test(wanted)) {
    const known = Object.keys(ALLOCATORS).join(', ');
    throw new KaonError('no-such-allocator', `there is no allocator ${JSON.stringify(wanted)}`, {
      hint: `one of ${known}, or the path of a module: ./mine.js`,
    });
  }
  const path = resolve(wanted);
  const module = await importModule(path);
  const allocator = (module as { default?: unknown }).default;
  if (typeof allocator === 'function') return limited(allocator as Allocator, timeoutMs);
  throw new KaonError(
    'no-such-allocator',
    `the module ${path} has no function as its default export`,
    {
      hint: 'docs/allocators.md has an example',
    },
  );
}

async function importModule(path: string): Promise<unknown> {
  try {
    return await import(pathToFileURL(path).href);
  } catch (cause) {
    throw new KaonError(
      'no-such-allocator',
      `cannot load the allocator ${path}: ${String(cause)}`,
      {
        cause,
      },
    );
  }
}

/**
 * The same allocator, ended when a round takes too long: what runs inside of a script with a time limit is ended with it,
 * whatever it does (node's vm, `timeout`). Costs a tenth of a millisecond a round.
 */
function limited(allocator: Allocator, timeoutMs: number): Allocator {
  const script = new Script('decide()');
  return (round: AllocationRound) => {
    const own = frozen(round);
    const context = createContext({ decide: () => allocator(own) });
    return script.runInContext(context, { timeout: timeoutMs }) as readonly Grant[];
  };
}

/** What it is shown is part of what the master knows, and is not for it to change. */
function frozen(round: AllocationRound): AllocationRound {
  for (const agent of round.agents) freezeAll(agent, agent.attributes, agent.total, agent.free);
  for (const candidate of round.candidates) {
    freezeAll(candidate, candidate.holds);
    for (const need of candidate.needs ?? []) freezeAll(need, need.resources, need.attributes);
    if (candidate.needs) Object.freeze(candidate.needs);
  }
  for (const role of round.roles.values()) {
    freezeAll(role, role.own, role.holds, role.guarantee ?? {}, role.limit ?? {});
  }
  freezeAll(round.agents, round.candidates, round.total, round.free, round.minimum);
  // The check of its grants reads the other one.
  return Object.freeze({ ...round, roles: new Map(round.roles) });
}

function freezeAll(...parts: readonly object[]): void {
  for (const part of parts) Object.freeze(part);
}
