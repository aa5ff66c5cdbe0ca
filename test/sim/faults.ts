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
  /** Share of these cuts in which what it says arrives and no answer comes back. */
  deafShare: number;
  /** A batch of messages is handed to a client twice. */
  redeliver: number;

  /** Redis ends and starts again with all its data, with all but the last second, or empty. */
  redisRestartEveryMs: number;
  redisCrashEveryMs: number;
  redisFlushEveryMs: number;
  /** A replica that lags behind takes over, with a clock of its own. */
  redisFailoverEveryMs: number;
  replicaLagMs: number;
  clockSkewMs: number;
  /** How long some clients go on talking to the old one. */
  splitBrainMs: number;
  /** Redis executes nothing for a while, or takes no writes. */
  redisSlowEveryMs: number;
  redisFullEveryMs: number;

  masterPauseEveryMs: number;
  masterPauseMs: number;
  masterCrashEveryMs: number;
  /** A leader dies in the moment in which it has sent a commit. */
  masterCrashAtCommit: number;

  agentCrashEveryMs: number;
  /** An agent dies between two steps of a launch or of an end. */
  agentCrashAtStep: number;
  /** The same between two effects of a turn that are about executors. */
  agentCrashAtEffect: number;
  agentPauseEveryMs: number;
  rebootEveryMs: number;
  /** A node is never heard of again. */
  nodeDeathEveryMs: number;
  /** Somebody stops a unit; loses a checkpoint; fills the disk for a while. */
  handStopEveryMs: number;
  checkpointLossEveryMs: number;
  diskFullEveryMs: number;
  /** An operator says that an agent is gone, or takes it out, and it lives. */
  agentGivenUpEveryMs: number;
  /** Another machine with a copy of the disk starts an agent with the same id. */
  impostorEveryMs: number;

  /** A request to systemd takes long, and what follows it waits. */
  slowSystemd: number;
  slowSystemdMs: number;
  /** A unit's command cannot be executed. */
  startFailure: number;
  /** systemd's signal that a unit has changed does not arrive. */
  lostSignal: number;

  /** An executor ends by itself; the connection to its agent breaks; it stands still; it never says a word. */
  executorCrashEveryMs: number;
  executorBreakEveryMs: number;
  executorPauseEveryMs: number;
  muteExecutor: number;
  /** A change of limits fails, and may have been made; memory is in use that was to be taken away. */
  resizeFailure: number;
  shrinkRefusal: number;

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
  deafShare: 0,
  redeliver: 0,
  redisRestartEveryMs: 0,
  redisCrashEveryMs: 0,
  redisFlushEveryMs: 0,
  redisFailoverEveryMs: 0,
  replicaLagMs: 0,
  clockSkewMs: 0,
  splitBrainMs: 0,
  redisSlowEveryMs: 0,
  redisFullEveryMs: 0,
  agentPauseEveryMs: 0,
  nodeDeathEveryMs: 0,
  handStopEveryMs: 0,
  checkpointLossEveryMs: 0,
  diskFullEveryMs: 0,
  agentGivenUpEveryMs: 0,
  impostorEveryMs: 0,
  masterPauseEveryMs: 0,
  masterPauseMs: 0,
  masterCrashEveryMs: 0,
  masterCrashAtCommit: 0,
  agentCrashEveryMs: 0,
  agentCrashAtStep: 0,
  agentCrashAtEffect: 0,
  executorCrashEveryMs: 0,
  executorBreakEveryMs: 0,
  executorPauseEveryMs: 0,
  muteExecutor: 0,
  resizeFailure: 0,
  shrinkRefusal: 0,
  rebootEveryMs: 0,
  slowSystemd: 0,
  slowSystemdMs: 0,
  startFailure: 0,
  lostSignal: 0,
  frameworkCrashEveryMs: 0,
  frameworkPauseEveryMs: 0,
  frameworkPauseMs: 0,
});

/** Draws the faults of one run. */
export function drawFaults(random: Random): Faults {
  const sometimes = <T>(present: () => T, absent: T): T =>
    random.chance(0.5) ? present() : absent;
  /** Of the hard ones fewer at a time. */
  const seldom = (fromS: number, toS: number): number =>
    random.chance(0.25) ? random.int(fromS, toS) * 1000 : 0;
  return {
    latencyMs: random.pick([0.2, 1, 20]),
    slowCall: sometimes(() => random.pick([0.002, 0.02]), 0),
    slowCallMs: random.pick([500, 3000]),
    breakCall: sometimes(() => random.pick([0.002, 0.02, 0.1]), 0),
    lateCall: sometimes(() => 0.5, 0),
    partitionEveryMs: sometimes(() => random.int(5, 40) * 1000, 0),
    partitionMs: random.int(1, 20) * 1000,
    deafShare: random.pick([0, 0.5]),
    redeliver: sometimes(() => 0.1, 0),
    redisRestartEveryMs: seldom(10, 40),
    redisCrashEveryMs: seldom(10, 40),
    redisFlushEveryMs: seldom(15, 60),
    redisFailoverEveryMs: seldom(10, 40),
    replicaLagMs: random.pick([100, 2000, 8000]),
    clockSkewMs: random.pick([0, 100, 2000]),
    splitBrainMs: random.pick([0, 1000, 5000]),
    redisSlowEveryMs: seldom(5, 30),
    redisFullEveryMs: seldom(10, 40),
    masterPauseEveryMs: sometimes(() => random.int(4, 20) * 1000, 0),
    masterPauseMs: random.pick([500, 3000, 6000]),
    masterCrashEveryMs: sometimes(() => random.int(4, 30) * 1000, 0),
    masterCrashAtCommit: sometimes(() => random.pick([0.002, 0.02]), 0),
    agentCrashEveryMs: sometimes(() => random.int(4, 30) * 1000, 0),
    agentCrashAtStep: sometimes(() => random.pick([0.01, 0.1]), 0),
    agentPauseEveryMs: seldom(5, 30),
    nodeDeathEveryMs: random.chance(0.15) ? random.int(20, 120) * 1000 : 0,
    handStopEveryMs: seldom(5, 30),
    checkpointLossEveryMs: seldom(5, 30),
    diskFullEveryMs: seldom(10, 40),
    agentGivenUpEveryMs: seldom(15, 60),
    impostorEveryMs: random.chance(0.15) ? random.int(15, 60) * 1000 : 0,
    rebootEveryMs: sometimes(() => random.int(10, 60) * 1000, 0),
    slowSystemd: sometimes(() => random.pick([0.02, 0.2]), 0),
    slowSystemdMs: random.pick([500, 4000]),
    startFailure: sometimes(() => 0.1, 0),
    lostSignal: sometimes(() => random.pick([0.1, 1]), 0),
    frameworkCrashEveryMs: sometimes(() => random.int(5, 30) * 1000, 0),
    frameworkPauseEveryMs: sometimes(() => random.int(5, 30) * 1000, 0),
    frameworkPauseMs: random.int(1, 20) * 1000,
    agentCrashAtEffect: sometimes(() => random.pick([0.001, 0.01]), 0),
    executorCrashEveryMs: sometimes(() => random.int(3, 30) * 1000, 0),
    executorBreakEveryMs: sometimes(() => random.int(1, 10) * 1000, 0),
    executorPauseEveryMs: seldom(5, 20),
    muteExecutor: sometimes(() => 0.1, 0),
    resizeFailure: sometimes(() => 0.2, 0),
    shrinkRefusal: sometimes(() => 0.5, 0),
  };
}

/** The faults that are present, in one line. */
export function describeFaults(faults: Faults): string {
  return Object.entries(faults)
    .filter(([, value]) => value !== 0)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}
