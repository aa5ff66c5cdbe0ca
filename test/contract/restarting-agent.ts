/**
 * One agent on a systemd in memory, with its real socket, checkpoints and journals, that can be stopped and started again.
 * Its executors are `ExecutorPeer`s of the test.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentDependencies } from '../../agent/agent.ts';
import { runAgent } from '../../agent/agent.ts';
import { openCheckpoints } from '../../agent/checkpoint.ts';
import { createIntroduction } from '../../agent/executor-introduction.ts';
import { ExecutorJournals } from '../../agent/executor-journal.ts';
import { openIdentity } from '../../agent/identity.ts';
import { systemClock } from '../../io/clock.ts';
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { ExecutorUpdate } from '../../protocol/executor-messages.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Systemd } from '../../systemd/port.ts';
import type { FakeSystemd } from '../../systemd/fake.ts';
import { createFakeSystemd } from '../../systemd/fake.ts';
import { type AgentHub, createAgentHub } from '../support/agent-hub.ts';
import { agentIdOf, agentInfo, executorTask, launchIdOf } from '../support/builders.ts';
import { policyOf } from '../support/policies.ts';
import { createWatchedLog } from '../support/watch.ts';
import { ExecutorPeer } from './executor-peer.ts';

export class RestartingAgent {
  readonly directory = mkdtempSync(join(tmpdir(), 'kaon-agent-'));
  readonly systemd: FakeSystemd = createFakeSystemd();
  readonly socketPath = join(this.directory, 'executors.sock');
  /** What the test does to it, from the next start on. */
  readonly changes: { -readonly [K in keyof AgentDependencies]?: AgentDependencies[K] } = {};
  /** Of the agent; can be set forward. */
  readonly clock = { ...systemClock, aheadMs: 0 };
  hub: AgentHub = createAgentHub();
  log = createWatchedLog();
  bootId = 'boot';
  readonly #peers: ExecutorPeer[] = [];
  #stop = new AbortController();
  #ended: Promise<unknown> = Promise.resolve();

  constructor() {
    this.clock.monotonicMs = () => systemClock.monotonicMs() + this.clock.aheadMs;
  }

  /** Resolves when it has registered. */
  async start(): Promise<void> {
    this.hub = createAgentHub();
    this.log = createWatchedLog();
    this.#stop = new AbortController();
    const { directory, socketPath, log, hub, bootId } = this;
    const info = agentInfo('a1');
    const { agentId } = info;
    this.#ended = runAgent(
      {
        store: hub.store,
        systemd: whileRunning(this.systemd, this.#stop.signal),
        clock: this.clock,
        log,
        checkpoints: await openCheckpoints(directory, log),
        journals: new ExecutorJournals({ directory, agentId, log }),
        fetcher: { fetch: () => Promise.resolve() },
        introduction: createIntroduction({ socketPath, agentId, defaultExecutor: ['/default'] }),
        policy: policyOf(directory),
        programs: {},
        identity: await openIdentity({
          ...{ directory, cluster: 'test', wanted: undefined },
          traces: () => Promise.resolve([]),
          make: () => agentIdOf('a1'),
        }),
        ...{ socketPath, cluster: 'test', directory, info, bootId },
        ...this.changes,
      },
      this.#stop.signal,
    );
    this.#ended.catch(() => undefined); // For who stops it.
    await Promise.race([this.hub.registered(), this.#ended]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Stops it, and leaves nothing behind. */
  async remove(): Promise<void> {
    await this.stop();
    await Promise.all(this.#peers.map((peer) => peer.leave()));
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Resolves when the executor has been started. */
  async executorStarted(): Promise<void> {
    await this.until(() => existsSync(this.sandboxOf('e1', 'E.e1')) && this.unit !== undefined);
  }

  /** Its unit is loaded. Of the executor `e1`. */
  get unit(): string | undefined {
    const [unit] = readdirSync(join(this.directory, 'live'))
      .filter((name) => name === 'E.e1.json')
      .map((name) => readFileSync(join(this.directory, 'live', name), 'utf8'))
      .map((text) => (JSON.parse(text) as { unit: string }).unit);
    return unit !== undefined && this.systemd.specOf(unit) ? unit : undefined;
  }

  /** A connection of the executor `e1` that has said who it is. */
  register(executorId = 'e1'): ExecutorPeer {
    return this.#introduce({ type: 'RegisterExecutor' }, executorId);
  }

  /** As `register`, of one that remembers the launches of these tasks, by their ids. */
  comeBack(
    tasks: Readonly<Record<string, string>>,
    updates: readonly ExecutorUpdate[] = [],
  ): ExecutorPeer {
    return this.#introduce({
      type: 'ReregisterExecutor',
      tasks: Object.entries(tasks).map(([launchId, taskId]) => ({
        launchId: launchIdOf(launchId),
        task: executorTask(taskId),
      })),
      updates,
    });
  }

  /** A connection that says nothing by itself. */
  connect(): ExecutorPeer {
    const peer = new ExecutorPeer(this.socketPath);
    this.#peers.push(peer);
    return peer;
  }

  #introduce(message: object, executorId = 'e1'): ExecutorPeer {
    const peer = this.connect();
    const path = join(this.sandboxOf(executorId, `E.${executorId}`), 'token');
    const token = readFileSync(path, 'utf8');
    peer.say({ ...message, token, frameworkId: 'f1', executorId });
    return peer;
  }

  sandboxOf(taskId: string, launchId: string): string {
    return join(this.directory, 'sandboxes', 'f1', taskId, launchId);
  }

  /** The journal of `e1` as it is on disk; empty if there is none. */
  get journal(): string {
    const path = join(this.directory, 'executors', 'E.e1');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await systemClock.sleep(5);
  }

  /** Launches task `t1` as `k1`, and so on, of the executor. */
  host(number: number, executor: ExecutorInfo, more: Parameters<AgentHub['host']>[3] = {}): void {
    this.hub.host(`k${String(number)}`, `t${String(number)}`, executor, more);
  }

  send(...messages: readonly Message[]): void {
    this.hub.send(...messages);
  }
}

/** An agent that has stopped hears nothing any more. What the test changes of systemd while it runs counts for it, too. */
function whileRunning(systemd: Systemd, signal: AbortSignal): Systemd {
  const own: Pick<Systemd, 'onUnitChanged' | 'onConnection'> = {
    onUnitChanged: (listener) => {
      systemd.onUnitChanged((...change) => {
        if (!signal.aborted) listener(...change);
      });
    },
    onConnection: (listener) => {
      systemd.onConnection((state) => {
        if (!signal.aborted) listener(state);
      });
    },
  };
  return Object.assign(Object.create(systemd) as Systemd, own);
}
