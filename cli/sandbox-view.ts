/** Who a task runs as, and what its sandbox lacks, in words for `kaon task`. Pure. */
import type { AgentRecord, ExecutorRecord } from '../protocol/records.ts';
import type { TaskView } from '../io/task-view.ts';

/** The attribute in which an agent says who its tasks are, unless they ask to be somebody else. */
export const TASK_USER_ATTRIBUTE = 'task-user';

/** What there is to know of it. */
export interface SandboxFacts {
  readonly view: Pick<TaskView, 'info'>;
  readonly agent: AgentRecord | undefined;
  readonly executor?: ExecutorRecord | undefined;
}

/** @returns label and text of each line; an undefined text is nothing to say */
export function sandboxLines({
  view: { info },
  agent,
  executor,
}: SandboxFacts): [label: string, text: string | undefined][] {
  if (!info) return [];
  const { command, user, sandboxing } = executor?.info ?? {};
  // A task of an executor is in its executor's, whose command has it, if it has one.
  const source = executor ? (command ?? { user, sandboxing }) : info.command;
  const usual = agent?.info.attributes[TASK_USER_ATTRIBUTE];
  return [
    ['user', source?.user ?? (usual === undefined ? undefined : `${usual} (as its node has it)`)],
    ['sandbox', describeSandboxing(source?.sandboxing)],
  ];
}

function describeSandboxing(
  sandboxing: { readonly relax: readonly string[]; readonly network: string } | undefined,
): string | undefined {
  if (!sandboxing) return undefined;
  const { relax, network } = sandboxing;
  const parts = [
    ...(relax.length > 0 ? [`without ${[...relax].sort().join(', ')}`] : []),
    ...(network === 'full' ? [] : [`network ${network}`]),
  ];
  return parts.length === 0 ? undefined : parts.join('; ');
}
