/** Agents of this process on a private systemd, without master and Redis. They can be stopped as if they had died. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { runAgent } from '../../agent/agent.ts';
import { openCheckpoints } from '../../agent/checkpoint.ts';
import { openIdentity } from '../../agent/identity.ts';
import { systemClock } from '../../io/clock.ts';
import { createSystemd } from '../../systemd/manager.ts';
import { type AgentHub, createAgentHub } from '../support/agent-hub.ts';
import { agentIdOf, agentInfo } from '../support/builders.ts';
import { createWatchedLog } from '../support/watch.ts';
import type { SystemdBed } from './private-systemd.ts';

export interface RunningAgent {
  readonly hub: AgentHub;
  readonly log: ReturnType<typeof createWatchedLog>;
  /** Its state directory. */
  readonly directory: string;
  /** Rejects if the agent was refused. */
  readonly ended: Promise<unknown>;
  /** Its tasks go on, as they do after SIGKILL: neither tells systemd anything. */
  stop(): Promise<void>;
}

export interface AgentOnOptions {
  readonly cluster?: string;
  /** True while no checkpoint can be written. */
  readonly isDiskFull?: () => boolean;
}

/** @param name of the state directory, which outlives the agent; also its id */
export async function startAgentOn(
  bed: SystemdBed,
  name: string,
  options: AgentOnOptions = {},
): Promise<RunningAgent> {
  const { cluster = 'test', isDiskFull = () => false } = options;
  const directory = join(bed.directory, `${cluster}-${name}`);
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  const { busAddress, cgroupRoot } = bed.inside;
  const systemd = createSystemd({ busAddress, cgroupRoot, sweepMs: 50 });
  const hub = createAgentHub();
  const log = createWatchedLog();
  const stop = new AbortController();
  const info = agentInfo(name);
  const identity = await openIdentity({
    directory,
    cluster,
    wanted: undefined,
    traces: () => Promise.resolve([]),
    make: () => agentIdOf(name),
  });
  const checkpoints = await openCheckpoints(directory, log);
  const write: typeof checkpoints.write = (checkpoint) => {
    if (isDiskFull()) throw new Error('ENOSPC: no space left on device, write');
    checkpoints.write(checkpoint);
  };
  const ended = runAgent(
    {
      store: hub.store,
      systemd,
      clock: systemClock,
      log,
      checkpoints: { ...checkpoints, write },
      identity,
      cluster,
      directory,
      info,
      bootId: 'boot',
    },
    stop.signal,
  );
  ended.catch(() => undefined); // For who waits for it.
  return {
    hub,
    log,
    directory,
    ended,
    stop: async () => {
      stop.abort();
      await ended.catch(() => undefined); // A refusal is the test's business.
      await systemd.close();
    },
  };
}
