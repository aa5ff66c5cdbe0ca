/** Which fault comes when, to whom, and for how long: all of it follows from the seed. Pure. */
import type { Random } from '../sim/random.ts';

interface Habits {
  /** What it takes hold of; two faults of one never overlap. */
  readonly on: 'leader' | 'standby' | 'node' | 'framework' | 'redis' | 'clock';
  /** How long it lasts, milliseconds. */
  readonly forMs: readonly [least: number, most: number];
}

/** Every kind of fault. */
export const FAULTS = {
  'leader-killed': { on: 'leader', forMs: [0, 0] },
  'leader-paused-past-its-lease': { on: 'leader', forMs: [3500, 5000] },
  'leader-restarted': { on: 'leader', forMs: [0, 0] },
  'leader-cut-off': { on: 'leader', forMs: [3000, 5000] },
  'standby-killed': { on: 'standby', forMs: [0, 0] },
  'agent-killed': { on: 'node', forMs: [0, 0] },
  'agent-paused': { on: 'node', forMs: [1000, 4000] },
  'agent-restarted': { on: 'node', forMs: [0, 0] },
  'agent-cut-off': { on: 'node', forMs: [1000, 5000] },
  'agent-cut-off-past-its-timeout': { on: 'node', forMs: [14_000, 16_000] },
  'agent-reply-cut': { on: 'node', forMs: [0, 0] },
  'agent-slowed': { on: 'node', forMs: [2000, 4000] },
  'disk-full': { on: 'node', forMs: [1500, 4000] },
  'systemd-reexecuted': { on: 'node', forMs: [0, 0] },
  'systemd-reloaded': { on: 'node', forMs: [0, 0] },
  'bus-killed': { on: 'node', forMs: [0, 0] },
  'node-rebooted': { on: 'node', forMs: [200, 1500] },
  'framework-killed': { on: 'framework', forMs: [200, 2000] },
  'framework-paused': { on: 'framework', forMs: [1000, 4000] },
  'redis-killed': { on: 'redis', forMs: [0, 1500] },
  'redis-paused': { on: 'redis', forMs: [500, 2500] },
  'redis-connections-dropped': { on: 'redis', forMs: [0, 0] },
  'redis-failed-over': { on: 'redis', forMs: [0, 0] },
  'redis-failed-over-to-the-past': { on: 'redis', forMs: [300, 1500] },
  'redis-emptied': { on: 'redis', forMs: [0, 0] },
  'clock-stepped': { on: 'clock', forMs: [2000, 5000] },
} as const satisfies Record<string, Habits>;

export type FaultKind = keyof typeof FAULTS;
const ALL = Object.keys(FAULTS) as FaultKind[];

export interface PlannedFault {
  readonly kind: FaultKind;
  readonly on: Habits['on'];
  readonly atMs: number;
  readonly forMs: number;
  /** In [0, 1): which of those there are. */
  readonly whom: number;
}

const MEAN_PAUSE_MS = 2200;

/** Faults of the way to Redis, which only a gateway can have. */
const ON_GATEWAY: readonly FaultKind[] = [
  'leader-cut-off',
  'agent-cut-off',
  'agent-cut-off-past-its-timeout',
  'agent-reply-cut',
  'agent-slowed',
  'redis-connections-dropped',
];

/** @param only kinds that were asked for; all if it is empty */
export function possibleFaults(only: readonly FaultKind[], isWatched: boolean): FaultKind[] {
  const wanted = only.length > 0 ? only : ALL;
  return wanted.filter((kind) => !isWatched || !ON_GATEWAY.includes(kind));
}

/**
 * @param kinds to draw from
 * @returns faults in the order of `atMs`; each kind once before any comes a second time
 */
export function planFaults(
  random: Random,
  seconds: number,
  kinds: readonly FaultKind[] = ALL,
): PlannedFault[] {
  const meanMs = Math.min(MEAN_PAUSE_MS, (seconds * 1000) / kinds.length);
  const faults: PlannedFault[] = [];
  let bag: FaultKind[] = [];
  for (let atMs = meanMs / 2; atMs < seconds * 1000; atMs += meanMs * (0.5 + random.next())) {
    if (bag.length === 0) bag = [...kinds];
    const [kind] = bag.splice(random.int(0, bag.length - 1), 1);
    if (kind === undefined) continue;
    const { on, forMs } = FAULTS[kind];
    const [least, most] = forMs;
    faults.push({ kind, on, atMs, forMs: random.int(least, most), whom: random.next() });
  }
  return faults;
}
