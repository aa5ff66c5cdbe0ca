/** Runs an agent as a process: detects the node, connects to systemd and Redis, recovers, and serves until SIGTERM. */
import { access, constants, mkdir, readFile, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { randomName, systemClock } from '../io/clock.ts';
import type { Log, LogLevel } from '../io/log.ts';
import { hidePassword } from '../io/redis-connection.ts';
import { RedisStore } from '../io/redis-store.ts';
import { findToken } from '../io/secrets.ts';
import type { DaemonSettings, Service } from '../io/service.ts';
import { logSettings, openService } from '../io/service.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';
import { idPart } from '../protocol/ids.ts';
import type { AgentId } from '../protocol/ids.ts';
import type { AgentInfo } from '../protocol/task.ts';
import type { NumberRanges } from '../protocol/numbers.ts';
import type { StaticReservation } from '../protocol/reservations.ts';
import type { Resources } from '../protocol/resources.ts';
import { formatResources } from '../protocol/resources.ts';
import { detectCgroupVersion } from '../systemd/cgroup-use.ts';
import { createSystemd } from '../systemd/manager.ts';
import type { Systemd } from '../systemd/port.ts';
import { isSafeRoot } from '../systemd/reread.ts';
import type { AgentDependencies } from './agent.ts';
import { runAgent } from './agent.ts';
import { serveAsAgent } from './agent-service.ts';
import { findTraces } from './adopt.ts';
import { createFetcher } from './artifacts/index.ts';
import type { Checkpoints } from './checkpoint.ts';
import { openCheckpoints } from './checkpoint.ts';
import type { NodeFacts } from './detect.ts';
import { checkReservations, detectNode, resourcesToOffer } from './detect.ts';
import { lockDirectory } from './directory-lock.ts';
import { agentDirectory } from './files.ts';
import { createIntroduction, prepareSocket } from './executor-introduction.ts';
import { ExecutorJournals } from './executor-journal.ts';
import type { Identity } from './identity.ts';
import { openIdentity } from './identity.ts';
import { closeSandboxes } from './sandbox.ts';
import type { SandboxSettings } from './sandboxing.ts';
import { describePolicy, openSandboxPolicy, userOfTasks } from './sandboxing.ts';
import { warnOfNeighbours } from './neighbours.ts';
import type { UserMode, UserModeOptions } from './user-mode.ts';
import { openUserMode } from './user-mode.ts';

/** What an agent is started with; everything but the address and the state directory has a default. */
export interface AgentProcessOptions {
  readonly redis: string;
  readonly cluster: string;
  /** Absolute; made if it is missing. */
  readonly stateDir: string;
  /** Instead of what was detected. */
  readonly resources?: Partial<Resources>;
  /** Which units there are of what is numbered in `resources`: ports, GPUs. */
  readonly numbers?: NumberRanges;
  /** Kept for the system; default 512 MiB of memory, and no CPU. */
  readonly reserve?: Partial<Resources>;
  /** What of it is kept for roles. Default: nothing. */
  readonly reserveFor?: readonly StaticReservation[];
  /** Beside those that are detected, or instead of them. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** Default: the one in the state directory, or a new one made of the host name. */
  readonly agentId?: string;
  /** D-Bus address of systemd. Default: the system bus, or with `ofUser` that of the user. */
  readonly busAddress?: string;
  /** It is an agent of the user that runs it, in the user's own systemd. */
  readonly ofUser?: {
    /** It may start where the limits of tasks cannot be held. */
    readonly isUnlimited: boolean;
  };
  /** Of artifacts that tasks may share, bytes. Default 2 GiB. */
  readonly artifactCacheBytes?: number;
  /** Users and sandboxes of tasks; default: `SandboxSettings`. */
  readonly sandboxing?: SandboxSettings;
  /** Where Kaon's own programs for the node are, absolute. Default: beside the one that runs. */
  readonly programs?: string;
  readonly logLevel?: LogLevel;
}

const ARTIFACT_CACHE_BYTES = 2 * 1024 ** 3;
/** It mostly waits: memory counts more than speed. */
const DEFAULT_EXECUTOR_FLAGS = ['--max-semi-space-size=1', '--lite-mode', '--no-expose-wasm'];

/**
 * Resolves when the agent has stopped; its tasks go on.
 *
 * @throws KaonError `agent-moved` if another agent took over its id, `agent-running`, `no-resources`, `agent-state`,
 *   `systemd-unreachable`, those of `openUserMode`, and the master's own codes if it refuses the agent
 */
export async function runAgentProcess(
  settings: DaemonSettings<AgentProcessOptions>,
): Promise<void> {
  const service = openService('kaon-agent', settings.options.logLevel ?? 'info');
  logSettings(service.log, settings.list);
  try {
    await serve(settings, service);
  } finally {
    service.end();
  }
}

async function serve(
  settings: DaemonSettings<AgentProcessOptions>,
  service: Service,
): Promise<void> {
  const { options } = settings;
  const { redis, cluster, stateDir } = options;
  const { log } = service;
  const token = findToken();
  const opened = await openNode(options, log);
  const { directory, userMode, systemd, node, checkpoints, identity } = opened;
  const { agentId } = identity;
  log.identify({ agentId });
  log.info('node.detected', {
    total: formatResources(node.total),
    offers: formatResources(resourcesOf(node, options)),
    redis: hidePassword(redis),
    cluster,
    stateDir,
  });
  warnOfNeighbours(userMode?.controlGroup ?? '', log);
  const executing = await prepareExecuting(options, { directory, agentId, log, userMode });
  const store = new RedisStore({ url: redis, cluster, log, name: 'agent', token });
  const stop = new AbortController();
  stopOnSignals(stop, service);
  const infoWith = (given: AgentProcessOptions): AgentInfo => ({
    ...{ agentId, hostname: node.hostname, resources: resourcesOf(node, given) },
    ...(given.reserveFor?.length && { reservations: [...given.reserveFor] }),
    ...(given.numbers && { numbers: given.numbers }),
    attributes: {
      ...node.attributes,
      ...(userMode === undefined && { 'task-user': userOfTasks(executing.policy) }),
      ...given.attributes,
      ...userMode?.attributes,
    },
  });
  const info = infoWith(options);
  const common = { service, settings, redis: store.redis, url: redis };
  let end: 'stopped' | 'moved';
  try {
    end = await runAgent(
      {
        store,
        systemd,
        clock: systemClock,
        log,
        checkpoints,
        ...executing,
        identity,
        cluster,
        directory,
        info,
        hooks: serveAsAgent({ ...common, info, infoWith }),
        bootId: userMode?.bootId ?? (await readBootId()),
        ...(userMode && { ofUser: userMode.user }),
      },
      stop.signal,
    );
  } finally {
    // Open connections would keep an agent alive that has been refused.
    await store.close();
    await systemd.close();
  }
  if (end === 'moved') throw movedError(agentId);
}

function movedError(agentId: AgentId): KaonError {
  const message = `another agent has registered as ${agentId}; this one has stopped`;
  return new KaonError('agent-moved', message, {
    hint: 'two agents must not share a state directory or an --agent-id',
  });
}

/** What there is on this node before anybody else hears of the agent: its directory, its systemd, and who it is. */
async function openNode(options: AgentProcessOptions, log: Log): Promise<OpenedNode> {
  const { cluster } = options;
  const directory = agentDirectory(options.stateDir);
  refuseUnsafe(directory);
  const userMode = options.ofUser && (await openUserMode(userModeOptions(options, log)));
  await makeStateDirectory(directory);
  // Held until this process is gone, however that comes about.
  await lockDirectory(directory);
  const busAddress = userMode?.busAddress ?? options.busAddress;
  const systemd = createSystemd({
    log,
    ...(busAddress !== undefined && { busAddress }),
    ...(userMode && { ofUser: userMode }),
  });
  const node = await detectNode(await systemd.describe(), userMode?.controlGroup);
  resourcesOf(node, options); // There must be something to offer, before anything is left behind.
  const checkpoints = await openCheckpoints(directory, log);
  const identity = await openIdentity({
    directory,
    cluster,
    wanted: options.agentId as AgentId | undefined,
    traces: () => findTraces({ directory, cluster, systemd, checkpoints }),
    make: () => `${idPart(node.hostname)}.${randomName(6)}` as AgentId,
  });
  return { directory, userMode, systemd, node, checkpoints, identity };
}

interface OpenedNode {
  readonly directory: string;
  readonly userMode: UserMode | undefined;
  readonly systemd: Systemd;
  readonly node: NodeFacts;
  readonly checkpoints: Checkpoints;
  readonly identity: Identity;
}

function resourcesOf(
  { total }: { readonly total: Resources },
  { resources = {}, reserve = {}, reserveFor = [] }: AgentProcessOptions,
): Resources {
  const offered = resourcesToOffer(total, resources, reserve);
  checkReservations(offered, reserveFor);
  return offered;
}

function userModeOptions(options: AgentProcessOptions, log: Log): UserModeOptions {
  const { busAddress, ofUser } = options;
  return { environment: process.env, busAddress, isUnlimited: ofUser?.isUnlimited === true, log };
}

/** @throws KaonError `agent-state` if it cannot be written to */
async function makeStateDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o711 });
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    const found = `state directory ${directory} cannot be made or written to: ${messageOf(cause)}`;
    throw new KaonError('agent-state', found, {
      cause,
      hint: 'choose another --state-dir; without --user the agent needs root',
    });
  }
}

function stopOnSignals(stop: AbortController, { log, notifier }: Service): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info('agent.stopping', { signal });
      notifier.stopping();
      stop.abort();
    });
  }
}

interface Prepared {
  readonly directory: string;
  readonly agentId: AgentId;
  readonly log: Log;
  readonly userMode: UserMode | undefined;
}

/** What executors, artifacts and tasks that are a part of Kaon need of this process and its installation. */
async function prepareExecuting(
  options: AgentProcessOptions,
  { directory, agentId, log, userMode }: Prepared,
): Promise<
  Pick<
    AgentDependencies,
    'journals' | 'fetcher' | 'introduction' | 'policy' | 'socketPath' | 'programs'
  >
> {
  const socketPath = prepareSocket(directory);
  const programs = options.programs ?? dirname(await realpath(process.argv[1] ?? '.'));
  const defaultExecutor = [
    process.execPath,
    ...DEFAULT_EXECUTOR_FLAGS,
    join(programs, 'default-executor.js'),
  ];
  const policy = await openSandboxPolicy(options.sandboxing ?? {}, {
    ...{ directory, programs, cgroupVersion: detectCgroupVersion('/sys/fs/cgroup') },
    ...(userMode && { canSandbox: userMode.canSandbox }),
  });
  closeSandboxes(directory, policy.user === 'dynamic');
  log.info('sandboxing', describePolicy(policy));
  return {
    journals: new ExecutorJournals({ directory, agentId, log }),
    fetcher: createFetcher({
      ...{ directory, log, clock: systemClock },
      cacheMaxBytes: options.artifactCacheBytes ?? ARTIFACT_CACHE_BYTES,
      helperArgv: [process.execPath, join(programs, 'artifact-fetcher.js')],
    }),
    introduction: createIntroduction({ socketPath, agentId, defaultExecutor }),
    policy,
    socketPath,
    programs: { KAON_NODE: process.execPath, KAON_PROGRAM: join(programs, 'kaon.js') },
  };
}

/** Paths below it are in the units of all tasks, and systemd must read them there as they were meant. */
function refuseUnsafe(directory: string): void {
  if (isSafeRoot(directory)) return;
  const found = `state directory ${JSON.stringify(directory)} has a character that systemd does not keep in a unit`;
  throw new KaonError('agent-state', found, {
    hint: 'choose a --state-dir without control characters, quotes, backslashes, dollars, semicolons and percent signs',
  });
}

/** The kernel's boot and the start of process 1: a systemd in a namespace of its own may end while the kernel goes on. */
async function readBootId(): Promise<string> {
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const stat = await readFile('/proc/1/stat', 'utf8');
  // proc(5): field 22 is the start time; the second, in parentheses, may hold anything.
  const startTicks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '0';
  return `${boot}.${startTicks}`;
}
