/**
 * A runner: the process of each task of a hosting framework. One is active: it is the scheduler of that framework, took over
 * by framework failover, and has the program as its child. The other stands by. What either decides is in `core/`.
 */
import { hostname, userInfo } from 'node:os';
import { dirname } from 'node:path';
import { SchedulerDriver } from '../../framework/index.ts';
import type { Scheduler, TaskId, TaskStatus } from '../../framework/index.ts';
import type { Clock } from '../../io/clock.ts';
import { randomName } from '../../io/clock.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { messageOf } from '../../protocol/errors.ts';
import type { HostingEffect, HostingEvent, HostingState, Leaving } from './core/hosting.ts';
import { createHostingState, step } from './core/hosting.ts';
import { siblingId } from './core/family.ts';
import type { Verdict } from './core/takeover.ts';
import { judge, newTakeoverMemory } from './core/takeover.ts';
import { Program } from './program.ts';
import { isKillRequested, labelsOf, readHost, readHostView } from './registry-view.ts';
import type { RunnerSandbox } from './sandbox.ts';
import { runnerTask } from './submission.ts';

/** How often a standby looks, milliseconds; and when it has just seen that its time may have come. */
const LOOK_MS = 3000;
const LOOK_AGAIN_MS = 500;
/** A look that took longer has waited for Redis: what was seen before it counts no more, milliseconds. */
const LOOK_SLOW_MS = 3000;
/** How often the active runner sees whether it still is, milliseconds. */
const SEE_MS = 2000;
const TICK_MS = 250;
/** A runner that is ended has so long to learn why, and to say goodbye, milliseconds. */
const HURRY_MS = 1000;

/** What a runner works with. */
export interface RunnerOptions {
  readonly sandbox: RunnerSandbox;
  readonly store: RedisStore;
  readonly clock: Clock;
  /** Command line of the program. */
  readonly argv: readonly string[];
  /** Working directory of the task. */
  readonly directory: string;
  /** Of this process; the program gets it with some more. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly say: (words: string) => void;
}

/** Why and from whom a runner takes over. */
type Takeover = Pick<
  Extract<Verdict, { action: 'take-over' }>,
  'predecessor' | 'failures' | 'isOver'
>;

/** What the submitter hands over. */
const FROM_SUBMITTER: Takeover = { predecessor: undefined, failures: 0, isOver: false };

/** One runner, from its start to its end. */
export class Runner {
  readonly #options: RunnerOptions;
  readonly #program: Program;
  readonly #stop = new AbortController();
  #driver: SchedulerDriver | undefined;
  #state: HostingState | undefined;
  #sinceMs = 0;
  #finish: (exitCode: number) => void = () => undefined;

  constructor(options: RunnerOptions) {
    this.#options = options;
    const { argv, directory } = options;
    this.#program = new Program({
      argv,
      directory,
      environment: this.#programEnvironment(),
      onEnded: (end) => {
        this.#step({ type: 'program.ended', end });
      },
    });
  }

  /** Resolves when there is nothing left to do here. @returns the exit code */
  async run(): Promise<number> {
    const { role } = this.#options.sandbox.assignment;
    if (role === 'first') return this.#host(FROM_SUBMITTER);
    // A look may wait for Redis; the end of a standby waits for nothing.
    const takeover = await Promise.race([this.#standBy(), aborted(this.#stop.signal)]);
    return takeover ? this.#host(takeover) : 0;
  }

  /** SIGTERM, from whoever. The program has had it too, because systemd and agents send it to the whole unit. */
  end(): void {
    if (!this.#state) {
      this.#stop.abort();
      return;
    }
    this.#step({ type: 'end.asked' });
    void this.#explainEnd();
  }

  /** @returns undefined if there is nothing to take over any more */
  async #standBy(): Promise<Takeover | undefined> {
    const { clock, say } = this.#options;
    const { signal } = this.#stop;
    let memory = newTakeoverMemory();
    say('standing by');
    while (!signal.aborted) {
      const startMs = clock.monotonicMs();
      const verdict = await this.#look(memory);
      const isStale = clock.monotonicMs() - startMs > LOOK_SLOW_MS;
      if (!verdict || isStale) memory = newTakeoverMemory();
      else if (verdict.action !== 'wait') {
        say(verdict.action === 'end' ? verdict.why : `taking over: ${verdict.why}`);
        return verdict.action === 'end' ? undefined : verdict;
      }
      await clock.sleep(memory.action === 'wait' ? LOOK_MS : LOOK_AGAIN_MS, signal);
    }
    return undefined;
  }

  /** @returns undefined if nothing could be seen */
  async #look(memory: ReturnType<typeof newTakeoverMemory>): Promise<Verdict | undefined> {
    const { store, sandbox, say } = this.#options;
    const { hostId, family, stopAfterMs } = sandbox.submission;
    try {
      return judge(await readHostView(store, hostId), memory, { family, stopAfterMs });
    } catch (error) {
      if (!this.#stop.signal.aborted) {
        say(`cannot see whether the active runner is there: ${messageOf(error)}`);
      }
      return undefined;
    }
  }

  async #host(takeover: Takeover): Promise<number> {
    const { clock, sandbox, store } = this.#options;
    const { submission, assignment } = sandbox;
    const { taskId, agentId } = assignment;
    const { hostId, frameworkId, name, resources, attributes, isStandbyWanted } = submission;
    this.#sinceMs = await store.nowMs();
    if (this.#stop.signal.aborted) return 0;
    const active = { activeId: taskId, activeSinceMs: this.#sinceMs, failures: takeover.failures };
    const finished = new Promise<number>((resolve) => {
      this.#finish = resolve;
    });
    this.#state = createHostingState(
      {
        ...takeover,
        me: taskId,
        family: submission.family,
        standby: { isWanted: isStandbyWanted, resources, attributes, agentId },
        maxRestarts: submission.maxRestarts,
        killGraceMs: submission.killGraceMs,
        stopAfterMs: submission.stopAfterMs,
      },
      clock.monotonicMs(),
    );
    this.#driver = new SchedulerDriver(
      this.#scheduler(),
      {
        frameworkId: hostId,
        name: `submit.${name}`,
        user: userInfo().username,
        hostname: hostname(),
        labels: labelsOf(active, frameworkId),
      },
      { store },
    );
    await this.#driver.start();
    void this.#tick();
    void this.#seeWhoHosts();
    const exitCode = await finished;
    this.#stop.abort();
    return exitCode;
  }

  #scheduler(): Scheduler {
    const registered = (): void => {
      this.#step({ type: 'registered' });
    };
    return {
      registered,
      reregistered: registered,
      resourceOffers: (_driver, offers) => {
        this.#step({ type: 'offers', offers, freshId: this.#freshId() });
      },
      statusUpdate: (_driver, { taskId, state, agentId, reason }: TaskStatus) => {
        this.#step({ type: 'task.news', news: { taskId, state, agentId, reason } });
      },
      error: (_driver, message) => {
        const isMoved = message.startsWith('framework failed over');
        this.#step(isMoved ? { type: 'moved' } : { type: 'failed', words: message });
      },
    };
  }

  #freshId(): TaskId {
    return siblingId(this.#options.sandbox.submission.family, randomName(4));
  }

  async #tick(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#step({ type: 'tick' });
      await this.#options.clock.sleep(TICK_MS, signal);
    }
  }

  /** Sooner than by its next heartbeat a runner sees here that another one has taken over. */
  async #seeWhoHosts(): Promise<void> {
    const { clock, store, sandbox, say } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await clock.sleep(SEE_MS, signal);
      if (signal.aborted || this.#state?.isRegistered !== true) continue;
      try {
        const askedAtMs = clock.monotonicMs();
        const host = await readHost(store, sandbox.submission.hostId);
        if (host?.state !== 'active') continue;
        const { activeId, activeSinceMs } = host;
        const isOurs = activeId === sandbox.assignment.taskId;
        if (isOurs) this.#step({ type: 'registry.seen', askedAtMs });
        // A record with an older time comes from a copy of Redis that lacks the last writes.
        else if (activeId !== undefined && activeSinceMs > this.#sinceMs) {
          this.#step({ type: 'moved' });
        }
      } catch (error) {
        if (!signal.aborted) say(`cannot see who hosts: ${messageOf(error)}`);
      }
    }
  }

  /** A kill that was asked of the cluster ends all of it; without one a node ends its tasks, and a standby is to go on. */
  async #explainEnd(): Promise<void> {
    const { store, sandbox, clock, say } = this.#options;
    const { submission, assignment } = sandbox;
    let isWished: boolean | undefined;
    try {
      isWished = await inTime(clock, isKillRequested(store, submission.hostId, assignment.taskId));
    } catch (error) {
      say(`cannot see who ends this: ${messageOf(error)}`);
    }
    this.#step({ type: 'end.explained', isWished: isWished ?? false });
  }

  #step(event: HostingEvent): void {
    if (!this.#state) return;
    const effects = step(this.#state, event, this.#options.clock.monotonicMs());
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: HostingEffect): void {
    switch (effect.type) {
      case 'program.start':
        this.#program.start();
        return;
      case 'program.kill':
        this.#program.kill();
        return;
      case 'say':
        this.#options.say(effect.words);
        return;
      case 'leave':
        void this.#leave(effect.how, effect.exitCode);
        return;
      default:
        if (this.#driver) this.#call(this.#driver, effect);
    }
  }

  #call(
    driver: SchedulerDriver,
    effect: Exclude<HostingEffect, { type: 'program.start' | 'program.kill' | 'say' | 'leave' }>,
  ): void {
    const { submission, packed } = this.#options.sandbox;
    const { resources, attributes } = submission;
    switch (effect.type) {
      case 'standby.ask':
        driver.requestResources(effect.isWanted ? [{ resources, attributes }] : []);
        return;
      case 'standby.launch': {
        const { taskId, offer } = effect;
        const { agentId, hostname: node } = offer;
        const assignment = { role: 'standby', taskId, agentId, hostname: node } as const;
        const task = runnerTask(submission, assignment, packed);
        driver.launchTasks(offer.offerId, [task], { refuseMs: 0 });
        return;
      }
      case 'offer.decline':
        driver.declineOffer(effect.offerId, { refuseMs: effect.refuseMs });
        return;
      case 'runner.kill':
        driver.killTask(effect.taskId, 0);
        return;
      case 'runners.reconcile':
        if (effect.taskIds.length > 0) driver.reconcileTasks(effect.taskIds);
        driver.reconcileTasks();
        return;
      default:
        effect satisfies never;
    }
  }

  async #leave(how: Leaving, exitCode: number): Promise<void> {
    const driver = this.#driver;
    // While Redis is away nobody can be told that it is over, and a standby must not begin anew: this waits.
    if (how === 'over') await driver?.detach();
    else if (how === 'away') await inTime(this.#options.clock, driver?.stop(true));
    else await driver?.abort();
    this.#finish(exitCode);
  }

  #programEnvironment(): Record<string, string | undefined> {
    const { environment, sandbox } = this.#options;
    const { redis, cluster, frameworkId, environment: own } = sandbox.submission;
    const { PATH: path = '/usr/local/bin:/usr/bin:/bin' } = { ...environment, ...own };
    return {
      ...environment,
      ...own,
      // Behind all others: `node` and `npx` are found also where only the agent knows of them.
      PATH: `${path}:${dirname(process.execPath)}`,
      KAON_REDIS: redis,
      KAON_CLUSTER: cluster,
      KAON_FRAMEWORK_ID: frameworkId,
      // Else a driver in a task has nothing to do with the framework in its environment.
      KAON_SCHEDULER: '1',
    };
  }
}

/** @returns undefined if it takes longer than somebody has who is being ended */
async function inTime<T>(clock: Clock, asked: Promise<T> | undefined): Promise<T | undefined> {
  const patience = new AbortController();
  const late = clock.sleep(HURRY_MS, patience.signal).then(() => undefined);
  try {
    return await Promise.race([asked, late]);
  } finally {
    patience.abort();
  }
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => {
      resolve(undefined);
    });
  });
}
