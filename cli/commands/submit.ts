/**
 * `kaon submit`: a framework moves into the cluster. Launches one task, a runner, which takes over as the scheduler of the
 * framework that has launched it; from then on nobody is needed here.
 */
import { hostname, userInfo } from 'node:os';
import { SchedulerDriver } from '../../framework/index.ts';
import type { AgentId, FrameworkId, TaskStatus } from '../../framework/index.ts';
import { randomName, systemClock } from '../../io/clock.ts';
import { silentLog } from '../../io/log.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { findToken } from '../../io/secrets.ts';
import { KaonError } from '../../protocol/errors.ts';
import { formatResources } from '../../protocol/resources.ts';
import { whyWaiting } from '../../schedulers/run/why-waiting.ts';
import { bundledName, bundleModule, isModule } from '../../schedulers/submit/bundle.ts';
import { readHost } from '../../schedulers/submit/registry-view.ts';
import {
  hostIdOf,
  packProgram,
  runnerTask,
  Submission,
} from '../../schedulers/submit/submission.ts';
import { SubmitScheduler } from '../../schedulers/submit/submit-scheduler.ts';
import { EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE } from '../failure.ts';
import { readAgentRooms } from '../registry.ts';
import { escapeControls } from '../words.ts';
import { logs } from './logs.ts';
import type { SubmitOptions } from './submit-options.ts';

/** A placement that takes longer than this is explained, milliseconds; and again when the reason changes. */
const EXPLAIN_AFTER_MS = 2000;
/** A submitter that has died is forgotten so soon, with a task that has not taken over, milliseconds. */
const FAILOVER_TIMEOUT_MS = 600_000;
/** Leaving may take so long, milliseconds. */
const GOODBYE_MS = 3000;
const EXIT_SIGINT = 130;
const EXIT_SIGTERM = 143;

/** @returns the exit code */
export async function submit(options: SubmitOptions, argv: readonly string[]): Promise<number> {
  const [program = '', ...args] = argv;
  const isFile = isModule(program);
  const packed = isFile ? packProgram(await bundleModule(program)) : undefined;
  // Between a module and its arguments `--` is one of ours.
  const given = isFile && args[0] === '--' ? args.slice(1) : args;
  const submission = submissionOf(
    options,
    isFile
      ? { type: 'file', file: bundledName(program), args: given }
      : { type: 'command', argv: [program, ...given] },
  );
  const taskFor = (agentId: AgentId, node: string): ReturnType<typeof runnerTask> => {
    const taskId = submission.family;
    return runnerTask(submission, { role: 'first', taskId, agentId, hostname: node }, packed);
  };
  // What is too large is said before anything is asked of the cluster.
  taskFor('any' as AgentId, 'any');
  const { redis: url, cluster } = options;
  const opening = { url, cluster, log: silentLog, name: 'submit', token: findToken() };
  const store = await openRedisStore(opening);
  let exitCode: number;
  try {
    await refuseHosted(store, submission);
    exitCode = await new Submit({ options, submission, store, taskFor }).execute();
  } finally {
    await store.close();
  }
  if (exitCode !== EXIT_OK || !options.follow) return exitCode;
  return logs(
    { redis: url, cluster, follow: true, stdout: true, stderr: true, raw: false },
    `${submission.hostId}/${submission.family}`,
  );
}

function submissionOf(options: SubmitOptions, program: Submission['program']): Submission {
  const { name, environment, attributes, cpuMillis, memMib, whenUnreachable } = options;
  const frameworkId = options.frameworkId ?? (`${name}.${randomName(6)}` as FrameworkId);
  return Submission.parse({
    hostId: hostIdOf(frameworkId),
    frameworkId,
    name,
    family: `${name}.${randomName(5)}`,
    program,
    redis: options.nodeRedis,
    cluster: options.cluster,
    environment,
    attributes,
    uris: options.uris.map((uri) => ({ uri })),
    resources: { cpuMillis, memMib },
    isStandbyWanted: options.isStandbyWanted,
    maxRestarts: options.maxRestarts,
    ...(options.user !== undefined && { user: options.user }),
    ...(options.killGraceMs !== undefined && { killGraceMs: options.killGraceMs }),
    ...(whenUnreachable !== 'keep' && { stopAfterMs: whenUnreachable.stopAfterMs }),
  });
}

/** Two programs would take the framework from each other, again and again. */
async function refuseHosted(store: RedisStore, submission: Submission): Promise<void> {
  const { hostId, frameworkId } = submission;
  const host = await readHost(store, hostId);
  if (host?.state !== 'active') return;
  const by =
    host.activeId === undefined ? 'is being submitted' : `is hosted by task ${host.activeId}`;
  throw new KaonError('hosted-already', `framework ${frameworkId} ${by} already`, {
    hint:
      host.activeId === undefined
        ? 'kaon frameworks shows it'
        : `kaon kill ${host.activeId} ends that; the framework's tasks go on`,
  });
}

interface SubmitParts {
  readonly options: SubmitOptions;
  readonly submission: Submission;
  readonly store: RedisStore;
  readonly taskFor: (agentId: AgentId, hostname: string) => ReturnType<typeof runnerTask>;
}

class Submit {
  readonly #parts: SubmitParts;
  readonly #scheduler: SubmitScheduler;
  readonly #driver: SchedulerDriver;
  readonly #explaining = new AbortController();
  #agent: { readonly agentId: AgentId; readonly hostname: string } | undefined;
  #finish: (exitCode: number) => void = () => undefined;

  constructor(parts: SubmitParts) {
    const { options, submission, store, taskFor } = parts;
    const { resources, family: taskId } = submission;
    this.#parts = parts;
    this.#scheduler = new SubmitScheduler(
      { taskId, resources, attributes: options.attributes, taskFor },
      {
        onLaunched: (agent) => {
          this.#agent = agent;
          say(`task ${taskId} is launched on ${agent.hostname} (agent ${agent.agentId})`);
        },
        onStatus: (status) => {
          say(`task ${taskId} ${describe(status)}`);
        },
        onHandedOver: () => {
          this.#tellHost();
          this.#finish(EXIT_OK);
        },
        onFailed: (status) => {
          tellOutput(status);
          this.#finish(EXIT_FAILED);
        },
        onError: (message) => {
          say(message);
          this.#finish(EXIT_FAILED);
        },
      },
    );
    this.#driver = new SchedulerDriver(
      this.#scheduler,
      {
        frameworkId: submission.hostId,
        name: `submit.${options.name}`,
        user: userInfo().username,
        hostname: hostname(),
        failoverTimeoutMs: FAILOVER_TIMEOUT_MS,
        labels: { hosts: submission.frameworkId },
      },
      { store },
    );
  }

  async execute(): Promise<number> {
    const finished = new Promise<number>((resolve) => {
      this.#finish = resolve;
    });
    const onSigint = (): void => {
      this.#finish(EXIT_SIGINT);
    };
    const onSigterm = (): void => {
      this.#finish(EXIT_SIGTERM);
    };
    process.on('SIGINT', onSigint).on('SIGTERM', onSigterm).on('SIGHUP', onSigterm);
    await this.#driver.start();
    void this.#explainWaiting();
    const exitCode = await finished;
    this.#explaining.abort();
    process.off('SIGINT', onSigint).off('SIGTERM', onSigterm).off('SIGHUP', onSigterm);
    // Nothing that it has launched may go on, unless that has taken over; then the driver has ended already.
    const stopped = this.#driver.status === 'DRIVER_RUNNING' && this.#driver.stop();
    const patience = new AbortController();
    await Promise.race([stopped, systemClock.sleep(GOODBYE_MS, patience.signal)]);
    patience.abort();
    return exitCode;
  }

  async #explainWaiting(): Promise<void> {
    const { signal } = this.#explaining;
    let said = '';
    while (!signal.aborted) {
      await systemClock.sleep(EXPLAIN_AFTER_MS, signal);
      if (signal.aborted || !this.#scheduler.isWaiting) continue;
      const reason = await this.#whyWaiting();
      if (reason !== said && this.#scheduler.isWaiting) say(`waiting: ${reason}`);
      said = reason;
    }
  }

  async #whyWaiting(): Promise<string> {
    const { store, options, submission } = this.#parts;
    if (!(await store.leader())) {
      return `no master is leading cluster ${options.cluster}; is one running? (kaon status)`;
    }
    return whyWaiting(await readAgentRooms(store), submission.resources, options.attributes);
  }

  #tellHost(): void {
    const { frameworkId, resources, isStandbyWanted, family: taskId } = this.#parts.submission;
    say('framework failed over: the task is its scheduler now');
    const size = formatResources(resources);
    const where = this.#agent?.hostname ?? 'a node';
    const standby = isStandbyWanted ? ', and a standby of that size on another node' : '';
    const looks = [
      [`kaon logs -f ${taskId}`, 'what it says'],
      ['kaon tasks', isStandbyWanted ? 'its tasks, and its standby' : 'its tasks'],
      [`kaon kill ${taskId}`, 'ends it'],
    ] as const;
    const width = Math.max(...looks.map(([command]) => command.length));
    const lines = looks.map(([command, what]) => `  ${command.padEnd(width)}   ${what}\n`);
    process.stdout.write(
      `framework ${frameworkId} is hosted on ${where} by task ${taskId}: ${size}${standby}\n${lines.join('')}`,
    );
  }
}

function describe({ state, message }: TaskStatus): string {
  return message === undefined ? state : `${state}: ${escapeControls(message)}`;
}

/** Why a runner did not come so far is in what it said last. */
function tellOutput({ certificate }: TaskStatus): void {
  const { stdoutTail = '', stderrTail = '' } = certificate ?? {};
  const output = `${stdoutTail}${stderrTail}`.trimEnd();
  if (output === '') return;
  say('its last output:');
  for (const line of output.split('\n')) process.stderr.write(`  ${escapeControls(line)}\n`);
  if (certificate?.exitCode === EXIT_UNREACHABLE) {
    process.stderr.write('hint: --node-redis gives the address of Redis as the nodes see it\n');
  }
}

function say(words: string): void {
  process.stderr.write(`kaon: ${words}\n`);
}
