/** Flags about the sandboxes of tasks; see `definitions.ts`, and docs/sandboxing.md for what they mean. */
import type { Option } from 'commander';
import { flag, repeated } from './definition.ts';

/**
 * Of an agent.
 *
 * @param user what tasks are that ask for none, as its default is shown
 */
export function agentSandboxOptions(user = 'kaon-task, else dynamic'): Option[] {
  return [
    flag('--task-user <user>', `user of tasks, or dynamic: one for each (default: ${user})`),
    repeated('--allow-user <user>', 'another that tasks may ask for, or *; may be repeated'),
    flag('--allow-root', 'tasks may run as root'),
    flag('--allow-relax <parts>', 'parts of the sandbox that tasks may do without, or all'),
    flag('--relax <parts>', 'parts that no task of this node has; all: no sandbox'),
    repeated('--expose <path>', 'path that tasks see as it is on the node; may be repeated'),
  ];
}

/** Of a task. */
export function runSandboxOptions(): Option[] {
  return [
    flag('--relax <parts>', 'without these parts of its sandbox, if the node allows it'),
    flag('--network <what>', 'full, loopback (the own node), or none', 'full'),
  ];
}
