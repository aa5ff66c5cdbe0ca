/**
 * The executors on the nodes: one of each at a time, started once, ended only if somebody wants that; and what runs in them:
 * handed over after they have registered, in groups that are whole, in containers that are large enough.
 *
 * Kept from what the processes and the kernel do. A task *has* resources from its launch; when its agent hears that it is to
 * have others, the smaller of both until the agent says what is in force. Of a task or an executor whose journal or
 * checkpoint its node has lost nothing is demanded: the agent cannot know.
 */
import type { ExecutorTaskState, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, areEqual, fits, formatResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Checks } from './checks.ts';
import type { Gift } from './executor.ts';
import type { ProcessFacts } from './processes.ts';
import type { Ender, SimEnd, SimUnitSpec } from './systemd.ts';
import { fail } from './violation.ts';

/** One executor, from its start to its end. */
export interface ExecutorFacts {
  readonly node: string;
  readonly spec: SimUnitSpec;
  readonly info: ExecutorInfo;
  /** `frameworkId/executorId` */
  readonly key: string;
  readonly tasks: Map<LaunchId, ProcessFacts>;
  /** In force. */
  limits: Resources;
  /** It has told its agent who it is; it has had a task. */
  hasSpoken: boolean;
  hasHadTasks: boolean;
}

export class ExecutorBook {
  readonly #checks: Checks;
  /** Those that run, by launch. A copy of a node has launches of its own name. */
  readonly #running = new Map<string, ExecutorFacts>();
  readonly #started = new Set<string>();
  /** Ends that agents have taken over from executors. */
  readonly #acknowledged = new Map<LaunchId, ExecutorTaskState>();
  /** By framework and group: the tasks that it was launched with. */
  readonly #groups = new Map<string, readonly string[]>();

  constructor(checks: Checks) {
    this.#checks = checks;
  }

  runningOn(agentId: string): ExecutorFacts[] {
    return [...this.#running.values()].filter(({ node }) => this.#checks.agentOf(node) === agentId);
  }

  isRunning(launchId: LaunchId): ExecutorFacts | undefined {
    return [...this.#running.values()].find(({ spec }) => spec.launchId === launchId);
  }

  // --- the process -------------------------------------------------------------------------------------------------

  started(node: string, spec: SimUnitSpec, info: ExecutorInfo): void {
    const { launchId, framework, limits } = spec;
    const key = `${framework.frameworkId}/${info.executorId}`;
    const name = `${node} ${launchId}`;
    const { lostCheckpoints } = this.#checks;
    if (this.#started.has(name) && !lostCheckpoints.has(launchId))
      fail(`executor ${key} (${launchId}) was started a second time on ${node}`);
    for (const other of this.#running.values()) {
      if (other.node !== node || other.key !== key) continue;
      if (lostCheckpoints.has(other.spec.launchId)) continue;
      fail(`executor ${key} runs on ${node} as ${other.spec.launchId} and as ${launchId}`);
    }
    this.#started.add(name);
    this.#running.set(name, {
      ...{ node, spec, info, key, limits },
      tasks: new Map(),
      hasSpoken: false,
      hasHadTasks: false,
    });
  }

  ended(node: string, { launchId }: SimUnitSpec, ender: Ender): void {
    const facts = this.#find(node, launchId);
    this.#running.delete(`${node} ${launchId}`);
    if (ender === 'agent' && !this.#isWanted(facts))
      fail(`executor ${facts.key} (${launchId}) was ended on ${node}, and nobody wants that`);
    for (const { spec } of facts.tasks.values())
      this.#checks.processes.ended(node, spec, 'killed', ender);
  }

  /** Somebody has asked for it; or it has nothing to do, and has been told when to go, or nobody to do it for. */
  #isWanted(facts: ExecutorFacts): boolean {
    const { endAskedFor, givenUp, detached } = this.#checks;
    const { node, spec, info, key, tasks, hasSpoken, hasHadTasks } = facts;
    const agentId = this.#checks.agentOf(node);
    const { frameworkId } = spec.framework;
    if (givenUp.has(agentId) || this.#checks.isEndedByMaster(spec.launchId)) return true;
    if (endAskedFor.has(frameworkId) || endAskedFor.has(`${agentId}/${key}`)) return true;
    if (!hasSpoken || !hasHadTasks) return true;
    const goesByItself = info.command === undefined || info.idleTimeoutMs !== undefined;
    return tasks.size === 0 && (goesByItself || detached.has(frameworkId));
  }

  /** Of an executor that runs. */
  isEndWanted(launchId: LaunchId): boolean {
    const facts = this.isRunning(launchId);
    return facts !== undefined && this.#isWanted(facts);
  }

  spoke(node: string, { launchId }: SimUnitSpec): void {
    this.#find(node, launchId).hasSpoken = true;
  }

  // --- its tasks ---------------------------------------------------------------------------------------------------

  groupSent(frameworkId: string, groupId: string, taskIds: readonly string[]): void {
    this.#groups.set(`${frameworkId}/${groupId}`, taskIds);
  }

  given(node: string, spec: SimUnitSpec, { tasks, groupId, isRegistered }: Gift): void {
    const { key } = this.#find(node, spec.launchId);
    const ids = tasks.map(({ task }) => task.taskId);
    if (!isRegistered) fail(`executor ${key} got ${ids.join()} on ${node} before it registered`);
    if (tasks.some(({ task, launchId }) => task.groupId !== groupId && !this.#isLost(launchId)))
      fail(`executor ${key} got ${ids.join()} on ${node} as group ${groupId ?? 'none'}`);
    if (groupId !== undefined) this.#checkWhole(spec.framework.frameworkId, groupId, tasks);
  }

  #checkWhole(frameworkId: string, groupId: string, tasks: readonly LaunchedTask[]): void {
    const whole = this.#groups.get(`${frameworkId}/${groupId}`) ?? [];
    const given = new Set<string>(tasks.map(({ task }) => task.taskId));
    for (const taskId of whole) {
      if (given.has(taskId)) continue;
      const launches = this.#checks.launchesOf.get(`${frameworkId}/${taskId}`) ?? [];
      if ([...launches].some((launchId) => this.#isLost(launchId))) continue;
      fail(
        `of group ${frameworkId}/${groupId} (${whole.join()}) only ${[...given].join()} started`,
      );
    }
  }

  hostedStarted(node: string, spec: SimUnitSpec, { task, launchId }: LaunchedTask): void {
    const { processes } = this.#checks;
    const facts = this.#find(node, spec.launchId);
    const limits = task.resources;
    const executor = spec.launchId;
    const process = processes.started(node, { ...spec, task, launchId, limits }, executor);
    facts.tasks.set(launchId, process);
    facts.hasHadTasks = true;
    this.#checkCovered(facts);
  }

  hostedEnded(node: string, launchId: LaunchId, end: SimEnd | 'killed', ender: Ender): void {
    const { processes } = this.#checks;
    const process = processes.all.get(launchId);
    if (!process) return;
    this.#running.get(`${node} ${process.executor ?? ''}`)?.tasks.delete(launchId);
    processes.ended(node, process.spec, end, ender);
  }

  endAcknowledged(launchId: LaunchId, state: ExecutorTaskState): void {
    if (isTerminal(state)) this.#acknowledged.set(launchId, state);
  }

  /** The end of which the agent has told the executor that it would tell it. */
  acknowledgedEnd(launchId: LaunchId): ExecutorTaskState | undefined {
    return this.#acknowledged.get(launchId);
  }

  // --- its container -----------------------------------------------------------------------------------------------

  limitsChanged(node: string, { launchId }: SimUnitSpec, limits: Resources): void {
    const facts = this.#find(node, launchId);
    facts.limits = limits;
    this.#checkCovered(facts);
  }

  /** A task of an executor has other resources now. */
  resized({ node, executor }: ProcessFacts): void {
    const facts = this.#running.get(`${node} ${executor ?? ''}`);
    if (facts) this.#checkCovered(facts);
  }

  #checkCovered(facts: ExecutorFacts): void {
    const needed = neededBy(facts);
    if (fits(needed, facts.limits)) return;
    if ([...facts.tasks.keys(), facts.spec.launchId].some((each) => this.#isLost(each))) return;
    fail(
      `the container of ${facts.key} (${facts.spec.launchId}) on ${facts.node} has ${formatResources(facts.limits)} for ${formatResources(needed)}`,
    );
  }

  /** At rest a container is as large as what is in it. @returns what is not */
  misfits(node: string): string[] {
    return [...this.#running.values()]
      .filter((facts) => facts.node === node && !areEqual(neededBy(facts), facts.limits))
      .map(
        (facts) =>
          `the container of ${facts.key} on ${node} has ${formatResources(facts.limits)} for ${formatResources(neededBy(facts))}`,
      );
  }

  #isLost(launchId: LaunchId): boolean {
    return this.#checks.lostCheckpoints.has(launchId);
  }

  #find(node: string, launchId: LaunchId): ExecutorFacts {
    return (
      this.#running.get(`${node} ${launchId}`) ??
      fail(`there is no executor ${launchId} on ${node}, and something is said of it`)
    );
  }
}

/** Its own resources and those of its tasks. */
function neededBy({ info, tasks }: ExecutorFacts): Resources {
  return [...tasks.values()].reduce(
    (sum, { resources }) => addResources(sum, resources),
    info.resources,
  );
}
