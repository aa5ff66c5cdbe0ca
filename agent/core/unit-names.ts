/** Names of units: readable in `systemctl`, unique for each launch, and telling whose they are. Pure. */

/** Every unit and slice of Kaon is under this one. */
export const ROOT_SLICE = 'kaon.slice';
/** systemd takes 255 characters; the rest is for the prefix, the launch and the suffix. */
const TASK_PART_MAX_CHARS = 120;

/**
 * `kaon-FRAMEWORK.slice`: a dash in the id would make a slice in a slice, so it is escaped as systemd escapes it.
 *
 * @see systemd-escape(1)
 */
export function frameworkSlice(frameworkId: string): string {
  return `kaon-${escapePart(frameworkId)}.slice`;
}

/**
 * `kaon-AGENT-TASK-LAUNCH.service`. The agent's tag comes first, so that two agents on one node can never take
 * each other's units for their own.
 */
export function taskUnit(agentTag: string, taskId: string, launchId: string): string {
  return `${agentUnitPrefix(agentTag)}${escapePart(taskId).slice(0, TASK_PART_MAX_CHARS)}-${launchId}.service`;
}

/** Glob of all task units of one agent. */
export function agentUnitPattern(agentTag: string): string {
  return `${agentUnitPrefix(agentTag)}*.service`;
}

/** The unit that keeps the cgroup controllers of `kaon.slice` switched on while no task runs. */
export function keeperUnit(agentTag: string): string {
  return `kaon-keeper-${agentTag}.service`;
}

function agentUnitPrefix(agentTag: string): string {
  return `kaon-${agentTag}-`;
}

/** Ids hold letters, digits and `_.:-`; of these only the dash means something to systemd. */
function escapePart(id: string): string {
  return id.replaceAll('-', '\\x2d');
}
