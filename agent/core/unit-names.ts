/** Names of units: readable in `systemctl`, unique for each launch, and telling whose they are. Pure. */

/** Every unit and slice of Kaon is under this one. */
export const ROOT_SLICE = 'kaon.slice';
/**
 * systemd takes 255 characters, and the slice of a task has both of these in its name; the rest is for the agent, the
 * launch and the suffix. Frameworks whose ids only differ after that share a slice, which is no more than a folder.
 */
const PART_MAX_CHARS = 90;

/**
 * `kaon-FRAMEWORK:AGENT.slice`: a dash in the id would make a slice in a slice, so it is escaped as systemd escapes it.
 * Each agent has its own, so that none stops a slice in which another one is just starting a task.
 *
 * @see systemd-escape(1)
 */
export function frameworkSlice(agentTag: string, frameworkId: string): string {
  return `kaon-${escapePart(frameworkId)}:${agentTag}.slice`;
}

/** Globs of all slices of one agent: of its frameworks, and of its tasks in them. */
export function agentSlicePatterns(agentTag: string): string[] {
  return [`kaon-*:${agentTag}.slice`, `kaon-*:${agentTag}-*.slice`];
}

/**
 * `kaon-AGENT-TASK-LAUNCH.service`. The agent's tag comes first, so that two agents on one node can never take
 * each other's units for their own.
 */
export function taskUnit(agentTag: string, taskId: string, launchId: string): string {
  return `${agentUnitPrefix(agentTag)}${escapePart(taskId)}-${launchId}.service`;
}

/** Glob of all task units of one agent. */
export function agentUnitPattern(agentTag: string): string {
  return `${agentUnitPrefix(agentTag)}*.service`;
}

/** The unit that keeps the cgroup controllers of `kaon.slice` switched on while no task runs. */
export function keeperUnit(agentTag: string): string {
  return `kaon-keeper-${agentTag}.service`;
}

/**
 * `kaon-fence-AGENT-MSms`: the timer and the service of that name stop the tasks that say `stopAfterMs`, unless the
 * timer is set again in time.
 */
export function fenceName(agentTag: string, stopAfterMs: number): string {
  return `kaon-fence-${agentTag}-${String(stopAfterMs)}ms`;
}

/** Glob of all fence timers of one agent. */
export function fencePattern(agentTag: string): string {
  return `kaon-fence-${agentTag}-*.timer`;
}

function agentUnitPrefix(agentTag: string): string {
  return `kaon-${agentTag}-`;
}

/** Ids hold letters, digits and `_.:-`; the dash means something to systemd, and the colon to the names of our slices. */
function escapePart(id: string): string {
  return id.replaceAll('-', '\\x2d').replaceAll(':', '\\x3a').slice(0, PART_MAX_CHARS);
}
