/** Which ports, GPUs or other numbered units a task has: the lowest that no task on this agent has. Pure. */
import type { AssignedNumbers } from '../../protocol/numbers.ts';
import { environmentOf, numbersIn } from '../../protocol/numbers.ts';
import { amountOf } from '../../protocol/resources.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { AgentState } from './state.ts';

/**
 * Numbers for a task that has none yet, and the variables that its command finds them by. They are a part of the task from
 * then on: checkpoints, journals and units keep them with it.
 *
 * Cost: numbers of the tasks on this agent, for a task that has asked for any.
 *
 * @returns the task, or what is missing: more was launched than this agent has, because it has less than it once said
 */
export function assignNumbers(state: AgentState, task: TaskInfo): TaskInfo | { problem: string } {
  const numbers: Record<string, number[]> = {};
  for (const [name, ranges] of Object.entries(state.numbers)) {
    const wanted = amountOf(task.resources, name);
    if (wanted === 0) continue;
    const taken = takenOf(state, name);
    const some: number[] = [];
    for (const number of numbersIn(ranges)) {
      if (some.length === wanted) break;
      if (!taken.has(number)) some.push(number);
    }
    if (some.length < wanted) {
      return {
        problem: `${name}: ${String(wanted)} wanted, ${String(some.length)} are free on ${state.hostname}`,
      };
    }
    numbers[name] = some;
  }
  return Object.keys(numbers).length === 0 ? task : withNumbers(task, numbers);
}

function withNumbers(task: TaskInfo, numbers: AssignedNumbers): TaskInfo {
  const { command } = task;
  if (!command) return { ...task, numbers };
  const environment = { ...command.environment, ...environmentOf(numbers) };
  return { ...task, numbers, command: { ...command, environment } };
}

function takenOf({ tasks }: AgentState, name: string): Set<number> {
  const taken = new Set<number>();
  for (const { task, state } of tasks.values()) {
    if (isTerminal(state)) continue;
    for (const number of task.numbers?.[name] ?? []) taken.add(number);
  }
  return taken;
}
