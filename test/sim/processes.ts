/** The tasks on the nodes, each in a unit or in its executor: none runs twice, none ends by a fault of ours. */
import type { LaunchId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { Checks } from './checks.ts';
import type { Ender, SimEnd, SimUnitSpec } from './systemd.ts';
import { fail } from './violation.ts';

/** One task, from its start to its end. */
export interface ProcessFacts {
  readonly node: string;
  readonly spec: SimUnitSpec;
  readonly key: string;
  readonly exclusiveName: string | undefined;
  /** Of a task of an executor, that executor's launch. */
  readonly executor: LaunchId | undefined;
  /** What it has now, and what its agent has said last that it has. */
  resources: Resources;
  reported?: Resources;
  end?: SimEnd | 'killed';
  ender?: Ender;
}

export class Processes {
  readonly #checks: Checks;
  readonly all = new Map<LaunchId, ProcessFacts>();
  /** By agent. */
  readonly #running = new Map<string, Map<LaunchId, ProcessFacts>>();

  constructor(checks: Checks) {
    this.#checks = checks;
  }

  runningOn(agentId: string): ProcessFacts[] {
    return [...(this.#running.get(agentId)?.values() ?? [])];
  }

  /** Processes of a task that run now. */
  runningOf(key: string): ProcessFacts[] {
    const launches = this.#checks.launchesOf.get(key) ?? [];
    return [...launches].flatMap((launchId) => {
      const process = this.all.get(launchId);
      return process?.ender === undefined && process ? [process] : [];
    });
  }

  /** @param executor launch of the executor that runs it; undefined: it has a unit of its own */
  started(node: string, spec: SimUnitSpec, executor?: LaunchId): ProcessFacts {
    const { launchId, framework, task } = spec;
    const { frameworkId } = framework;
    const key = `${frameworkId}/${task.taskId}`;
    const before = this.all.get(launchId);
    // A node that has lost the file of a launch that nobody has heard of does not know that it ran.
    const isExcused = this.#checks.lostCheckpoints.has(launchId);
    if (before && !isExcused)
      fail(`launch ${launchId} of ${key} was started a second time, on ${before.node} and ${node}`);
    const exclusiveName = task.exclusive ? `${frameworkId}/${task.name}` : undefined;
    const resources = spec.limits;
    const process: ProcessFacts = { node, spec, key, exclusiveName, executor, resources };
    this.#checkAlone(process);
    this.all.set(launchId, process);
    const agentId = this.#checks.agentOf(node);
    let running = this.#running.get(agentId);
    if (!running) this.#running.set(agentId, (running = new Map()));
    running.set(launchId, process);
    return process;
  }

  #checkAlone(process: ProcessFacts): void {
    const { key, exclusiveName, node, spec } = process;
    // Its launch was given up before it came to it: it is ended when its agent is back.
    if (this.#checks.told.isOver(spec.launchId) || this.#isExcused(process)) return;
    for (const other of this.runningOf(key)) {
      // The framework was told that the other one is over or not known, and has used the id again.
      if (this.#checks.told.isOver(other.spec.launchId)) continue;
      fail(
        `${key} runs on ${other.node} as ${other.spec.launchId} and on ${node} as ${spec.launchId}`,
      );
    }
    if (exclusiveName === undefined) return;
    for (const running of this.#running.values()) {
      for (const other of running.values()) {
        if (other.exclusiveName !== exclusiveName || this.#isExcused(other)) continue;
        fail(
          `exclusive ${exclusiveName} runs on ${other.node} as ${other.spec.launchId} and on ${node} as ${spec.launchId}`,
        );
      }
    }
  }

  /**
   * An operator has said that its node is gone, or Redis has forgotten it and its agent has not said yet that it runs, or
   * its agent does not know either, because it has lost the journal.
   */
  #isExcused({ node, spec, executor }: ProcessFacts): boolean {
    const checks = this.#checks;
    if (checks.givenUp.has(checks.agentOf(node))) return true;
    if (executor !== undefined && checks.lostCheckpoints.has(spec.launchId)) return true;
    const launch = checks.launches.get(spec.launchId);
    return !launch || !checks.isRemembered(launch.memory, launch.atMs);
  }

  ended(node: string, spec: SimUnitSpec, end: SimEnd | 'killed', ender: Ender): void {
    const process = this.all.get(spec.launchId);
    if (!process) return;
    process.end = end;
    process.ender = ender;
    this.#running.get(this.#checks.agentOf(node))?.delete(spec.launchId);
    if (ender === 'agent' && !this.#isEndWanted(process))
      fail(`${process.key} (${spec.launchId}) was ended on ${node}, and nobody has asked for that`);
  }

  /** A framework or an operator has asked for it, or the framework knows this launch for over. */
  #isEndWanted({ node, key, spec, executor }: ProcessFacts): boolean {
    const { endAskedFor, givenUp, told, lostCheckpoints } = this.#checks;
    // Its executor was ended with it, which has been judged; or its agent has found it where it knows of none.
    const { executors } = this.#checks;
    if (executor !== undefined && !executors.isRunning(executor)) return true;
    if (executor !== undefined && executors.isEndWanted(executor)) return true;
    if (executor !== undefined && lostCheckpoints.has(spec.launchId)) return true;
    return (
      endAskedFor.has(key) ||
      endAskedFor.has(spec.framework.frameworkId) ||
      givenUp.has(this.#checks.agentOf(node)) ||
      told.isOver(spec.launchId)
    );
  }

  /** Forgets what ended long ago: a long run would carry it all. */
  tidy(keep: number): void {
    const over = [...this.all].filter(([, { ender }]) => ender !== undefined);
    for (const [launchId] of over.slice(0, -keep)) this.all.delete(launchId);
  }
}
