/** What an agent says when it registers, in the form in which it is compared with what the master believes. */
import type { AgentExecutor } from '../../protocol/executor.ts';
import type { FrameworkId, LaunchId, TaskId } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { AgentTask } from '../../protocol/task.ts';
import { recoverFramework } from './data-loss.ts';
import type { StepContext } from './effects.ts';
import type { Agent } from './state.ts';

/** An agent's registration, as it is compared. */
export interface Report {
  readonly message: MessageOf<'RegisterAgent'>;
  /** Live, or ended and not acknowledged. */
  readonly tasks: ReadonlyMap<LaunchId, AgentTask>;
  /** Launches that have ended and been acknowledged. */
  readonly ended: ReadonlySet<LaunchId>;
  readonly executors: ReadonlyMap<LaunchId, AgentExecutor>;
  /** Launches that the master has ended on its own word while the agent was away. */
  readonly writtenOff: ReadonlySet<LaunchId>;
  /** Of executors that the agent does not report and tasks that are to be sent again need: whether they never got there. */
  readonly onTheirWay: Map<LaunchId, boolean>;
  /** The groups on this agent; made when a launch of one is sent again. */
  groups?: ReadonlyMap<string, Group>;
}

/** @returns the registration with maps of its lists */
export function reportOf(
  message: MessageOf<'RegisterAgent'>,
  writtenOff: ReadonlySet<LaunchId>,
): Report {
  return {
    message,
    tasks: new Map(message.tasks.map((task) => [task.launchId, task])),
    ended: new Set(message.ended.map(({ launchId }) => launchId)),
    executors: new Map(message.executors.map((executor) => [executor.launchId, executor])),
    writtenOff,
    onTheirWay: new Map(),
  };
}

/** A framework that the cluster has forgotten is known again by the word of an agent; not one that was torn down since. */
export function knowFramework(cx: StepContext, frameworkId: FrameworkId, report: Report): void {
  const { frameworks, cluster } = cx.state;
  if (frameworks.has(frameworkId) || cluster.tornDown.includes(frameworkId)) return;
  const framework = report.message.frameworks.find(({ info }) => info.frameworkId === frameworkId);
  if (framework) recoverFramework(cx, framework);
}

/** What is known of a group: ended tasks that are not forgotten are counted, too. */
export interface Group {
  size: number;
  /** One of its tasks has ended, or is lost: then none of them is started any more. */
  hasFallen: boolean;
  /** The first of them that has been lost by now. */
  lost?: TaskId;
}

/** @returns the group of a task on its agent; undefined if it has none */
export function groupOf(
  { state }: StepContext,
  agent: Agent,
  task: TaskRecord,
  report: Report,
): Group | undefined {
  const key = groupKey(task);
  if (key === undefined) return undefined;
  report.groups ??= groupsIn(
    [...agent.tasks].flatMap((each) => state.tasks.get(each) ?? []),
    report,
  );
  return report.groups.get(key);
}

function groupsIn(tasks: readonly TaskRecord[], report: Report): ReadonlyMap<string, Group> {
  const groups = new Map<string, Group>();
  for (const task of tasks) {
    const key = groupKey(task);
    if (key === undefined) continue;
    const group: Group = groups.get(key) ?? { size: 0, hasFallen: false };
    groups.set(key, group);
    group.size += 1;
    const reported = report.tasks.get(task.launchId)?.state;
    group.hasFallen ||=
      reported === undefined ? isTerminal(task.state) || !task.unheard : isTerminal(reported);
  }
  return groups;
}

function groupKey({ frameworkId, info }: TaskRecord): string | undefined {
  const groupId = info?.groupId;
  return groupId === undefined ? undefined : `${frameworkId}/${groupId}`;
}
