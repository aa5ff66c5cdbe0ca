/** How the author of a scheduler describes things: what the wire has, with defaults. */
import type { z } from 'zod';
import type { FrameworkId } from '../protocol/ids.ts';
import type { FrameworkInfo, ResourceRequest, TaskInfo } from '../protocol/task.ts';
import type { ExecutorInfo } from '../protocol/executor.ts';

/** A framework as its author describes it: everything but the name has a default. */
export type FrameworkDescription = Partial<Omit<FrameworkInfo, 'frameworkId'>> & {
  readonly name: string;
  /**
   * To take over as the scheduler of a framework that exists. Default: `KAON_FRAMEWORK_ID` where it is meant for this
   * scheduler (see `readEnvironment`), else a new id, made of the name.
   */
  readonly frameworkId?: FrameworkId;
};

/**
 * A task to launch, with a command or an executor. Its id is unique among the framework's tasks: letters, digits and
 * `_.:-`, at most 100. The kill grace period (5 s), `whenUnreachable` (`keep`), `exclusive` (false), labels, URIs and the
 * environment have defaults.
 */
export type TaskDescription = z.input<typeof TaskInfo>;

/**
 * An executor of tasks: with a command one of the framework's own, without the default executor. Its own resources are
 * counted once on each agent, as long as it lives.
 */
export type ExecutorDescription = z.input<typeof ExecutorInfo>;

/** What is still needed: `count` (default 1) times `resources`, on agents that have all of `attributes` (default none). */
export type ResourceDescription = Pick<ResourceRequest, 'resources'> &
  Partial<Omit<ResourceRequest, 'resources'>>;
