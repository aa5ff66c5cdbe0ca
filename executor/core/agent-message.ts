/**
 * Lines of the agent as messages. The agent is trusted, so no more is checked than what this process would stumble over;
 * what a newer agent may say and this library does not know is told apart, and left to its caller. Pure.
 */
import type { AgentToExecutor } from '../../protocol/executor-messages.ts';

/** A message; or why there is none. */
export type ReadLine =
  | { readonly ok: true; readonly message: AgentToExecutor }
  | { readonly ok: false; readonly problem: string };

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null;
const isText = (value: unknown): boolean => typeof value === 'string';

function isLaunched(value: unknown): boolean {
  return (
    isObject(value) &&
    isText(value['launchId']) &&
    isObject(value['task']) &&
    isText(value['task']['taskId'])
  );
}

const HAS_NEEDED: Readonly<Record<AgentToExecutor['type'], (fields: Fields) => boolean>> = {
  ExecutorRegistered: ({ executorInfo, frameworkInfo, agentInfo }) =>
    isObject(executorInfo) && isObject(frameworkInfo) && isObject(agentInfo),
  ExecutorReregistered: ({ agentInfo }) => isObject(agentInfo),
  RunTask: isLaunched,
  RunTaskGroup: ({ tasks }) => Array.isArray(tasks) && tasks.every(isLaunched),
  KillTask: ({ taskId, launchId, gracePeriodMs }) =>
    isText(taskId) && isText(launchId) && typeof gracePeriodMs === 'number',
  StatusUpdateAcknowledgement: ({ updateId }) => isText(updateId),
  FrameworkToExecutor: ({ data }) => isText(data),
  ShutdownExecutor: ({ gracePeriodMs }) => typeof gracePeriodMs === 'number',
  ExecutorError: ({ message }) => isText(message),
};

/** @param line without its end */
export function readLine(line: string): ReadLine {
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch {
    // Told to the caller as words; what the parser says of it would quote the line.
    return { ok: false, problem: `no JSON: ${line.slice(0, 80)}` };
  }
  if (!isObject(fields) || typeof fields['type'] !== 'string') {
    return { ok: false, problem: `no object with a type: ${line.slice(0, 80)}` };
  }
  const { type } = fields;
  if (!Object.hasOwn(HAS_NEEDED, type)) return { ok: false, problem: `unknown type ${type}` };
  return HAS_NEEDED[type as AgentToExecutor['type']](fields)
    ? { ok: true, message: fields as AgentToExecutor }
    : { ok: false, problem: `${type} lacks what it needs: ${line.slice(0, 80)}` };
}
