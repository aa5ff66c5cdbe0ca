/** Agents of this process on a private systemd, without master and Redis. They can be stopped as if they had died. */
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { runAgent } from '../../agent/agent.ts';
import { createFetcher } from '../../agent/artifacts/index.ts';
import { openCheckpoints } from '../../agent/checkpoint.ts';
import { createIntroduction, prepareSocket } from '../../agent/executor-introduction.ts';
import { ExecutorJournals } from '../../agent/executor-journal.ts';
import { openIdentity } from '../../agent/identity.ts';
import { closeSandboxes } from '../../agent/sandbox.ts';
import { type SandboxSettings, openSandboxPolicy } from '../../agent/sandboxing.ts';
import { systemClock } from '../../io/clock.ts';
import { detectCgroupVersion } from '../../systemd/cgroup-use.ts';
import { createSystemd } from '../../systemd/manager.ts';
import { type AgentHub, createAgentHub } from '../support/agent-hub.ts';
import { agentIdOf, agentInfo } from '../support/builders.ts';
import { createWatchedLog } from '../support/watch.ts';
import type { Systemd } from '../../systemd/port.ts';
import { TREE } from './cluster.ts';
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
  /** Default: tasks are root, in the whole sandbox, and see the directory of the bed and this tree. */
  readonly sandboxing?: SandboxSettings;
  /** True while no checkpoint can be written. */
  readonly isDiskFull?: () => boolean;
}

/** @param name of the state directory, which outlives the agent; also its id */
export async function startAgentOn(
  bed: SystemdBed,
  name: string,
  options: AgentOnOptions = {},
): Promise<RunningAgent> {
  const { cluster = 'test', isDiskFull = () => false, sandboxing } = options;
  const directory = join(bed.directory, `${cluster}-${name}`);
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  const { busAddress, cgroupRoot } = bed.inside;
  const systemd = seenFromInside(
    createSystemd({ busAddress, cgroupRoot, sweepMs: 50 }),
    cgroupRoot,
  );
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
  const policy = await openSandboxPolicy(
    {
      taskUser: 'root',
      allowRoot: true,
      allowUsers: ['*'],
      expose: [bed.directory, TREE],
      ...sandboxing,
    },
    { directory, programs: resolve('dist'), cgroupVersion: detectCgroupVersion(cgroupRoot) },
  );
  closeSandboxes(directory, policy.user === 'dynamic');
  const socketPath = prepareSocket(directory);
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
      journals: new ExecutorJournals({ directory, agentId: info.agentId, log }),
      fetcher: createFetcher({
        ...{ directory, log, clock: systemClock, cacheMaxBytes: 64 * 1024 * 1024 },
        helperArgv: [process.execPath, resolve('dist/artifact-fetcher.js')],
      }),
      introduction: createIntroduction({
        ...{ socketPath, agentId: info.agentId },
        defaultExecutor: [process.execPath, resolve('dist/default-executor.js')],
      }),
      socketPath,
      policy,
      programs: {},
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

/** This agent is outside of the bed, and executors are inside, where cgroups have other paths. */
function seenFromInside(systemd: Systemd, cgroupRoot: string): Systemd {
  return {
    ...systemd,
    openTaskGroup: async (...args) => {
      const { procs } = await systemd.openTaskGroup(...args);
      return { procs: procs.map((path) => path.replace(cgroupRoot, '/sys/fs/cgroup')) };
    },
  };
}
