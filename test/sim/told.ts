/** What frameworks are told of their tasks: the truth, once, and nothing more after the end. */
import type { FrameworkId, LaunchId } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import type { Checks } from './checks.ts';
import { fail } from './violation.ts';

/** Ends that the master decides though the process may run: an operator has said so. */
const ON_AN_OPERATORS_WORD: ReadonlySet<string> = new Set([
  'REASON_AGENT_REMOVED',
  'REASON_AGENT_REMOVED_BY_OPERATOR',
]);

export class Told {
  readonly #checks: Checks;
  readonly #ends = new Map<LaunchId, TaskStatus>();
  readonly #toldAtMs = new Map<LaunchId, number>();
  readonly #over = new Set<LaunchId>();
  readonly #seenUpdates = new Set<string>();

  constructor(checks: Checks) {
    this.#checks = checks;
  }

  /** Does the framework know that launch for over, or for unknown? */
  isOver(launchId: LaunchId): boolean {
    return this.#over.has(launchId);
  }

  statusSeen(frameworkId: FrameworkId, status: TaskStatus): void {
    const { launchId, state, updateId } = status;
    const key = `${frameworkId}/${status.taskId}`;
    const update = `${launchId ?? ''} ${updateId ?? ''}`;
    const isNew = updateId === undefined || !this.#seenUpdates.has(update);
    if (updateId !== undefined) this.#seenUpdates.add(update);
    if (state === 'TASK_UNKNOWN' || (isTerminal(state) && launchId === undefined)) {
      for (const each of this.#checks.launchesOf.get(key) ?? []) this.#over.add(each);
      return;
    }
    if (launchId === undefined) return;
    const end = this.#ends.get(launchId);
    const toldAtMs = this.#toldAtMs.get(launchId) ?? 0;
    const isForgotten =
      this.#checks.lostCheckpoints.has(launchId) ||
      toldAtMs <= this.#checks.lossOverAtMs ||
      // What another Redis has taken since tells the same from the beginning.
      (end && !this.#checks.isEndRemembered(end, toldAtMs));
    if (!isTerminal(state)) {
      // An answer to a question has no id; handed over twice it may come after what followed it.
      if (end && updateId !== undefined && isNew && !isForgotten)
        fail(`${key} (${launchId}) is ${state} after ${end.state}`);
      return;
    }
    if (end && !this.#mayDiffer(launchId, end, status) && !isSameEnd(end, status))
      fail(
        `${key} (${launchId}) ended twice: ${end.state} ${end.reason ?? ''}, then ${state} ${status.reason ?? ''}`,
      );
    if (end?.state !== state) this.#checkTruth(key, launchId, status);
    this.#toldAtMs.set(launchId, this.#checks.world.nowMs);
    // An answer has no id of its own, and cannot be looked up.
    if (!end || updateId !== undefined) this.#ends.set(launchId, status);
    this.#over.add(launchId);
  }

  /**
   * Its node has lost what it knew of it; or Redis has forgotten the end, and not because its agent is back: it has not
   * forgotten it, and tells the same one again.
   */
  #mayDiffer(launchId: LaunchId, end: TaskStatus, next: TaskStatus): boolean {
    if (this.#checks.lostCheckpoints.has(launchId)) return true;
    if (this.#checks.isEndRemembered(end)) return false;
    // Of what its agent has never taken it keeps no file.
    if (end.state === 'TASK_DROPPED' && next.state === 'TASK_LOST') return true;
    if (end.source === 'SOURCE_MASTER') return true;
    return next.state !== 'TASK_LOST' || next.reason !== 'REASON_RECONCILIATION';
  }

  /** The end that is told is the one that was. */
  #checkTruth(key: string, launchId: LaunchId, status: TaskStatus): void {
    const { state, reason = '', source, certificate } = status;
    const process = this.#checks.processes.all.get(launchId);
    const isRunning = process !== undefined && process.ender === undefined;
    // A task whose executor alone knows of it is unknown until that has come back.
    const isForgotten = process?.executor && this.#checks.lostCheckpoints.has(launchId);
    if (isRunning && !ON_AN_OPERATORS_WORD.has(reason) && !isForgotten)
      fail(`${key} (${launchId}) is said to be ${state} ${reason} and runs on ${process.node}`);
    if (source === 'SOURCE_MASTER' || reason === 'REASON_RECONCILIATION') return;
    // It may have been started twice then, and this may be the end of the first one.
    if (this.#checks.lostCheckpoints.has(launchId)) return;
    const promised = this.#checks.executors.acknowledgedEnd(launchId);
    if (promised !== undefined && promised !== state)
      fail(`${key} (${launchId}) is said to be ${state}, its executor has said ${promised}`);
    const end = process?.end;
    const isSuccess =
      typeof end === 'object' && end.result === 'success' && end.certificate.exitCode === 0;
    if (state === 'TASK_FINISHED' && !isSuccess)
      fail(`${key} is said to have finished, its process: ${JSON.stringify(end)}`);
    // Of what an executor had to say when it died its agent knows nothing.
    if (process?.executor !== undefined) return;
    if (state === 'TASK_FAILED' && isSuccess && certificate)
      fail(`${key} is said to have failed, and it has finished`);
  }

  /**
   * Answers of a commit that say that a task is not known or was not launched. While it runs that is wrong, unless its
   * node has not come back since Redis lost data, for all the time that it was given.
   */
  answered(isPrimary: boolean, messages: string): void {
    const isAbout =
      messages.includes('"TASK_UNKNOWN"') ||
      messages.includes('"REASON_TASK_UNKNOWN"') ||
      messages.includes('"REASON_INVALID_OFFERS"');
    if (!isAbout) return;
    for (const message of JSON.parse(messages) as Message[]) {
      if (message.type !== 'StatusUpdate') continue;
      const { frameworkId, taskId, state, reason, launchId } = message.status;
      const isUnknown = state === 'TASK_UNKNOWN' || reason === 'REASON_TASK_UNKNOWN';
      if (launchId !== undefined || (!isUnknown && reason !== 'REASON_INVALID_OFFERS')) continue;
      const key = `${frameworkId}/${taskId}`;
      for (const process of this.#checks.processes.runningOf(key))
        this.#checkUnknown(isPrimary, process);
    }
  }

  #checkUnknown(
    isPrimary: boolean,
    { key, node, spec }: { key: string; node: string; spec: { launchId: LaunchId } },
  ): void {
    const checks = this.#checks;
    const agentId = checks.agentOf(node);
    // Another machine has got the agent's id, because the cluster had lost all memory of the first one.
    if (checks.isClaimed(agentId)) return;
    if (!isPrimary || this.isOver(spec.launchId) || checks.givenUp.has(agentId)) return;
    if (checks.endAskedFor.has(spec.launchId) || checks.endAskedFor.has(key.split('/')[0] ?? ''))
      return;
    const sinceMs = checks.world.nowMs - checks.lossAtMs;
    const isGivenTime = sinceMs >= checks.timing.agentTimeoutMs - 2 * checks.clockSkewMs;
    if (isGivenTime && !checks.isSettled(agentId)) return;
    fail(
      `${key} (${spec.launchId}) is said to be unknown and runs on ${node}, ${sinceMs} ms after a loss`,
    );
  }

  tidy(keep: number): void {
    for (const [launchId] of [...this.#ends].slice(0, -keep)) this.#ends.delete(launchId);
    if (this.#seenUpdates.size > 20 * keep) this.#seenUpdates.clear();
  }
}

/** The same end told again; an answer to a question has no id of its own. */
function isSameEnd(a: TaskStatus, b: TaskStatus): boolean {
  if (a.state !== b.state) return false;
  return a.updateId === undefined || b.updateId === undefined || a.updateId === b.updateId;
}
