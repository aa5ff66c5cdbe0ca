/**
 * What goes wrong in a run, drawn from its seed. Each kind of fault is either absent or present with its own strength
 * (swarm testing: Groce et al., ISSTA 2012): a run with everything at once mostly tests reconnecting.
 */
import type { Random } from './random.ts';

/** Probabilities are per call or step, `EveryMs` are means between two of a kind for one victim; 0 is never. */
export interface Faults {
  /** Mean time of one way to Redis or back. */
  latencyMs: number;
  /** A call that takes long; what follows it on the connection waits behind it. */
  slowCall: number;
  slowCallMs: number;
  /** The connection breaks around a call: before it arrives, or before its reply does. The client sends it again. */
  breakCall: number;
  /** What was under way on a broken connection arrives all the same, after the repetition and what followed it. */
  lateCall: number;
  /** A client is cut off for some time. */
  partitionEveryMs: number;
  partitionMs: number;
  /** A batch of messages is handed to a client twice. */
  redeliver: number;

  masterPauseEveryMs: number;
  masterPauseMs: number;
  masterCrashEveryMs: number;
  /** A leader dies in the moment in which it has sent a commit. */
  masterCrashAtCommit: number;

  agentCrashEveryMs: number;
  /** An agent dies between two steps of a launch or of an end. */
  agentCrashAtStep: number;
  rebootEveryMs: number;

  /** A request to systemd takes long, and what follows it waits. */
  slowSystemd: number;
  slowSystemdMs: number;
  /** A unit's command cannot be executed. */
  startFailure: number;
  /** systemd's signal that a unit has changed does not arrive. */
  lostSignal: number;
  slowDiskMs: number;

  frameworkCrashEveryMs: number;
  /** A framework's process stands still, for longer than its timeout or not; its successor may be there before. */
  frameworkPauseEveryMs: number;
  frameworkPauseMs: number;
}

/** Nothing goes wrong. */
export const CALM: Readonly<Faults> = Object.freeze({
  latencyMs: 0.5,
  slowCall: 0,
  slowCallMs: 0,
  breakCall: 0,
  lateCall: 0,
  partitionEveryMs: 0,
  partitionMs: 0,
  redeliver: 0,
  masterPauseEveryMs: 0,
  masterPauseMs: 0,
  masterCrashEveryMs: 0,
  masterCrashAtCommit: 0,
  agentCrashEveryMs: 0,
  agentCrashAtStep: 0,
  rebootEveryMs: 0,
  slowSystemd: 0,
  slowSystemdMs: 0,
  startFailure: 0,
  lostSignal: 0,
  slowDiskMs: 1,
  frameworkCrashEveryMs: 0,
  frameworkPauseEveryMs: 0,
  frameworkPauseMs: 0,
});

/** Draws the faults of one run. */
export function drawFaults(random: Random): Faults {
  const sometimes = <T>(present: () => T, absent: T): T =>
    random.chance(0.5) ? present() : absent;
  return {
    latencyMs: random.pick([0.2, 1, 20]),
    slowCall: sometimes(() => random.pick([0.002, 0.02]), 0),
    slowCallMs: random.pick([500, 3000]),
    breakCall: sometimes(() => random.pick([0.002, 0.02, 0.1]), 0),
    lateCall: sometimes(() => 0.5, 0),
    partitionEveryMs: sometimes(() => random.int(5, 40) * 1000, 0),
    partitionMs: random.int(1, 20) * 1000,
    redeliver: sometimes(() => 0.1, 0),
    masterPauseEveryMs: sometimes(() => random.int(4, 20) * 1000, 0),
    masterPauseMs: random.pick([500, 3000, 6000]),
    masterCrashEveryMs: sometimes(() => random.int(4, 30) * 1000, 0),
    masterCrashAtCommit: sometimes(() => random.pick([0.002, 0.02]), 0),
    agentCrashEveryMs: sometimes(() => random.int(4, 30) * 1000, 0),
    agentCrashAtStep: sometimes(() => random.pick([0.01, 0.1]), 0),
    rebootEveryMs: sometimes(() => random.int(10, 60) * 1000, 0),
    slowSystemd: sometimes(() => random.pick([0.02, 0.2]), 0),
    slowSystemdMs: random.pick([500, 8000]),
    startFailure: sometimes(() => 0.1, 0),
    lostSignal: sometimes(() => random.pick([0.1, 1]), 0),
    slowDiskMs: random.pick([1, 50, 1000]),
    frameworkCrashEveryMs: sometimes(() => random.int(5, 30) * 1000, 0),
    frameworkPauseEveryMs: sometimes(() => random.int(5, 30) * 1000, 0),
    frameworkPauseMs: random.int(1, 20) * 1000,
  };
}

/** The faults that are present, in one line. */
export function describeFaults(faults: Faults): string {
  return Object.entries(faults)
    .filter(([, value]) => value !== 0)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}
