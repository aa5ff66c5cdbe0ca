/**
 * What tasks of executors are given before they are handed over, and what is left of them afterwards: files, cgroups, and
 * the node's part of their certificates.
 */
import { basename, join } from 'node:path';
import type { Log } from '../io/log.ts';
import { codeOf, messageOf } from '../protocol/errors.ts';
import type { ExecutorUpdate, LaunchedTask } from '../protocol/executor-messages.ts';
import type { Resources } from '../protocol/resources.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { TaskReason } from '../protocol/task-state.ts';
import type { DeathCertificate, TaskInfo } from '../protocol/task.ts';
import type { CgroupUse, Systemd } from '../systemd/port.ts';
import type { Fetcher } from './artifacts/index.ts';
import type { AgentEvent } from './core/events.ts';
import type { AgentState, AgentTaskEntry, ExecutorEntry } from './core/state.ts';
import { frameworkSlice } from './core/unit-names.ts';
import type { ExecutorIntroduction } from './executor-introduction.ts';
import type { OutputEnd } from './sandbox.ts';
import {
  directoryOf,
  linkSandbox,
  makeHosted,
  makeOutputFiles,
  prepareSandbox,
  readOutputEnd,
  sandboxPath,
} from './sandbox.ts';
import type { Grant, SandboxPolicy } from './sandboxing.ts';
import { fetchingAs, grantExecutor } from './sandboxing.ts';
import { TASKS_MAX } from './task-unit.ts';

const MIB = 1024 * 1024;

/** What it works with. */
export interface HostedTasksOptions {
  readonly state: AgentState;
  readonly systemd: Systemd;
  readonly introduction: ExecutorIntroduction;
  readonly policy: SandboxPolicy;
  readonly fetcher: Fetcher;
  readonly log: Log;
  readonly directory: string;
  readonly tell: (event: AgentEvent) => void;
}

/** The tasks of all executors of one agent. */
export class HostedTasks {
  readonly #options: HostedTasksOptions;
  readonly #stop = new AbortController();
  /** Tasks that are being prepared. */
  readonly #preparing = new Map<AgentTaskEntry, AbortController>();
  /** Of tasks whose cgroups had to be taken away before their executor has told their end. */
  readonly #lastUse = new WeakMap<AgentTaskEntry, CgroupUse>();

  constructor(options: HostedTasksOptions) {
    this.#options = options;
  }

  /** What is being prepared now is left to the next agent. */
  stop(): void {
    this.#stop.abort();
  }

  /** Makes what it needs; `hosted.prepared` or `hosted.failed` follows. */
  async prepare(entry: AgentTaskEntry): Promise<void> {
    const { key, launchId, task, hosted } = entry;
    const { tell } = this.#options;
    const stop = new AbortController();
    this.#preparing.set(entry, stop);
    try {
      const granted = hosted && (await this.#grant(hosted.executor));
      if (granted && hasSandbox(task)) {
        const signal = AbortSignal.any([this.#stop.signal, stop.signal]);
        await this.#prepareFiles(entry, hosted.executor, granted, signal);
      }
      const group = granted ? await this.#openGroup(entry, granted) : {};
      // It may have been killed meanwhile: then nothing waits for it, and nothing else closes its cgroup.
      if (isTerminal(entry.state)) await this.close(entry);
      else tell({ type: 'hosted.prepared', key, launchId, ...group });
    } catch (error) {
      if (this.#stop.signal.aborted) return; // The next agent prepares it anew.
      const reason = REASONS[codeOf(error) ?? ''] ?? 'REASON_CONTAINER_LAUNCH_FAILED';
      tell({ type: 'hosted.failed', key, launchId, reason, message: messageOf(error) });
    } finally {
      this.#preparing.delete(entry);
    }
  }

  async #prepareFiles(
    entry: AgentTaskEntry,
    executor: ExecutorEntry,
    granted: Grant,
    signal: AbortSignal,
  ): Promise<void> {
    const { directory, fetcher } = this.#options;
    const path = this.#sandboxOf(entry);
    const own = join(makeHosted(directory, executor.launchId), basename(path));
    const { work } = prepareSandbox(own, granted);
    makeOutputFiles(own, granted);
    linkSandbox(path, own);
    if (entry.task.uris.length > 0) {
      await fetcher.fetch(entry.task.uris, { work, ...(await fetchingAs(granted)) }, signal);
    }
  }

  async #openGroup(
    entry: AgentTaskEntry,
    { ids }: Grant,
  ): Promise<{ cgroupProcs?: readonly string[] }> {
    if (entry.hosted?.executor.info.isolation !== 'task') return {};
    const { systemd } = this.#options;
    const { cpuMillis, memMib: memoryMib } = entry.task.resources;
    const { procs } = await systemd.openTaskGroup(...this.#groupOf(entry), {
      ...{ cpuMillis, memoryMib, tasksMax: TASKS_MAX },
      ...(ids && { uid: ids.uid, gid: ids.gid }),
    });
    return { cgroupProcs: procs };
  }

  /** Ends what is left of it in its own cgroup, or stops its preparation. */
  async close(entry: AgentTaskEntry): Promise<void> {
    this.#preparing.get(entry)?.abort();
    if (entry.hosted?.executor.info.isolation !== 'task') return;
    try {
      await this.#options.systemd.closeTaskGroup(...this.#groupOf(entry));
    } catch (error) {
      const { unit, launchId } = entry;
      this.#options.log.warn('task-group.close-failed', {
        ...{ unit, launchId, error: messageOf(error) },
      });
    }
  }

  /** As `close`, of a task whose executor is still to tell the end. */
  kill(entry: AgentTaskEntry): void {
    const { unit, launchId } = entry;
    this.#options.log.info('task-group.kill', { unit, launchId });
    const use = this.#options.systemd.readTaskGroup(...this.#groupOf(entry));
    if (use) this.#lastUse.set(entry, use);
    void this.close(entry);
  }

  /** As its executor gets it. */
  launched(entry: AgentTaskEntry): LaunchedTask {
    const { launchId, task, hosted } = entry;
    const sandbox = directoryOf(this.#sandboxOf(entry));
    return {
      launchId,
      task,
      ...(hasSandbox(task) && {
        sandbox: {
          work: join(sandbox, 'work'),
          stdout: join(sandbox, 'stdout'),
          stderr: join(sandbox, 'stderr'),
        },
      }),
      ...(hosted?.cgroupProcs && { cgroupProcs: [...hosted.cgroupProcs] }),
    };
  }

  /** What the executor says of the end, and what the node knows of it. */
  certificateOf(executor: ExecutorEntry, update: ExecutorUpdate): DeathCertificate | undefined {
    if (!isTerminal(update.state)) return undefined;
    const { exitCode, signal, startedAtMs, endedAtMs, taskId } = update;
    const key = `${executor.framework.frameworkId}/${taskId}`;
    const entry = executor.tasks.get(key as AgentTaskEntry['key']);
    if (entry?.launchId !== update.launchId) return undefined;
    const isAlone = executor.info.isolation === 'task';
    return {
      ...(exitCode !== undefined && { exitCode }),
      ...(signal !== undefined && { signal }),
      ...(startedAtMs !== undefined && { startedAtMs }),
      ...(endedAtMs !== undefined && { endedAtMs }),
      ...(hasSandbox(entry.task) && this.#outputEndOf(entry)),
      ...(isAlone && {
        ...(this.#options.systemd.readTaskGroup(...this.#groupOf(entry)) ??
          this.#lastUse.get(entry)),
        memoryLimitBytes: entry.task.resources.memMib * MIB,
      }),
    };
  }

  /** An output that cannot be read takes no end away from its task, and no socket from its executor. */
  #outputEndOf(entry: AgentTaskEntry): Partial<OutputEnd> {
    try {
      return readOutputEnd(this.#sandboxOf(entry));
    } catch (error) {
      const { unit, launchId } = entry;
      this.#options.log.warn('output.unreadable', { unit, launchId, error: messageOf(error) });
      return {};
    }
  }

  /** What became of the wish for other limits of a task's own cgroup. */
  async resize(entry: AgentTaskEntry, limits: Resources): Promise<Resources> {
    const { systemd } = this.#options;
    const { cpuMillis, memMib: memoryMib } = limits;
    const result = await systemd.resizeTaskGroup(...this.#groupOf(entry), { cpuMillis, memoryMib });
    if (!result.ok) throw new Error(result.message);
    return { cpuMillis, memMib: result.memoryMib };
  }

  #groupOf({ unit, launchId, framework }: AgentTaskEntry): [string, string, string] {
    return [frameworkSlice(this.#options.state.agentTag, framework.frameworkId), unit, launchId];
  }

  /** As for the executor's own unit: they share it. */
  #grant({ info }: ExecutorEntry): Promise<Grant> {
    const { introduction, policy } = this.#options;
    return grantExecutor(policy, info, introduction.commandOf(info));
  }

  #sandboxOf({ framework, task, launchId }: AgentTaskEntry | ExecutorEntry): string {
    const { frameworkId } = framework;
    return sandboxPath(this.#options.directory, { frameworkId, taskId: task.taskId, launchId });
  }
}

/** It has a directory and output of its own. */
function hasSandbox({ command, uris }: TaskInfo): boolean {
  return command !== undefined || uris.length > 0;
}

/** As of a task with a unit of its own; and its executor, which may be refused for the same, has that reason. */
const REASONS: Readonly<Record<string, TaskReason>> = {
  'artifact-failed': 'REASON_ARTIFACT_FAILED',
  'not-granted': 'REASON_TASK_INVALID',
};
