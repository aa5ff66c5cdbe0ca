/** One task as a block of labelled lines. Pure. */
import { formatBytes, formatDuration } from '../protocol/quantities.ts';
import type { AgentRecord, ExecutorRecord } from '../protocol/records.ts';
import { formatResources } from '../protocol/resources.ts';
import type { WhenUnreachable } from '../protocol/command.ts';
import type { DeathCertificate } from '../protocol/task.ts';
import { describeAgentState } from './agent-view.ts';
import type { LoggedEvent } from './event-log.ts';
import { sandboxLines } from './sandbox-view.ts';
import { paintState } from './style.ts';
import type { Paint } from './style.ts';
import type { TaskView } from './task-view.ts';
import { escapeControls, formatLabels, formatPercent, formatSpan, formatTime } from './words.ts';
import { formatUse, formatUsec, quoteArgv, shortState } from './words.ts';

/** What there is to tell. */
export interface TaskFacts {
  readonly view: TaskView;
  /** Absent: it is not registered any more. */
  readonly agent: AgentRecord | undefined;
  /** Absent: it has none, or that is not there any more. */
  readonly executor?: ExecutorRecord | undefined;
  readonly nowMs: number;
  /** The task's own, oldest first. */
  readonly events: readonly LoggedEvent[];
}

/** Label and text; an undefined text is left out, and further lines of one are indented under the first. */
type Line = readonly [label: string, text: string | undefined];

const LABEL_WIDTH = 12;
/** `gone by operator` is the longest. */
const EVENT_WIDTH = 16;
/** Lines of each of stdout and stderr that are shown. */
const TAIL_LINES = 10;

/** @returns the block, with a newline at its end */
export function describeTask(facts: TaskFacts, paint: Paint): string {
  const lines = [
    ...identity(facts),
    ...state(facts, paint),
    ...command(facts),
    ...promises(facts.view),
    ...times(facts),
    ...certificateLines(facts.view.status?.certificate),
    ...history(facts.events, paint),
    ...tails(facts.view, paint),
  ];
  return lines
    .flatMap(([label, text]) => (text === undefined ? [] : [formatLine(label, text, paint)]))
    .join('');
}

function formatLine(label: string, text: string, paint: Paint): string {
  const [first = '', ...rest] = text.split('\n');
  const indent = ' '.repeat(LABEL_WIDTH);
  const more = rest.map((line) => `${indent}${line}\n`).join('');
  return `${paint('bold', label.padEnd(LABEL_WIDTH))}${first}\n${more}`;
}

function identity({ view, agent, executor, nowMs }: TaskFacts): Line[] {
  const { taskId, name, frameworkId, frameworkName, agentId, labels, executorId } = view;
  const host = agent === undefined ? 'not registered any more' : agent.info.hostname;
  const isThere = agent === undefined || agent.state === 'active';
  const reach = isThere ? '' : `, ${describeAgentState(agent, nowMs)}`;
  return [
    ['task', taskId],
    ['name', escapeControls(name)],
    [
      'framework',
      frameworkName === '' ? frameworkId : `${frameworkId} (${escapeControls(frameworkName)})`,
    ],
    ['agent', `${agentId} (${host}${reach})`],
    ['executor', shown(executorId, (id) => `${id} (${describeExecutor(executor)})`)],
    [
      'labels',
      labels && Object.keys(labels).length > 0 ? escapeControls(formatLabels(labels)) : undefined,
    ],
  ];
}

function describeExecutor(executor: ExecutorRecord | undefined): string {
  if (!executor) return 'not there any more';
  return `${formatResources(executor.info.resources)} of its own`;
}

function state({ view, nowMs }: TaskFacts, paint: Paint): Line[] {
  const { status, endedAtMs } = view;
  const when = endedAtMs === undefined ? '' : `, ${formatSpan(endedAtMs, nowMs)} ago`;
  const source = status && status.source !== 'SOURCE_AGENT' ? ` (${status.source})` : '';
  return [
    ['state', `${paintState(paint, view.state)}${when}`],
    ['message', shown(status?.message, escapeControls)],
    ['reason', shown(status?.reason, (reason) => `${reason}${source}`)],
    ...notes(view, nowMs).map((note): Line => ['note', note]),
  ];
}

function notes(view: TaskView, nowMs: number): string[] {
  const found: string[] = [];
  if (view.unreachable) found.push(fateOf(view, view.unreachable, nowMs));
  if (view.isUnacknowledged) found.push('its framework has not acknowledged the end');
  if (view.endedAtMs !== undefined) return found;
  if (view.isUnheard) found.push('sent to its agent, which has not said anything of it yet');
  if (view.killRequested) found.push(`kill requested by ${view.killRequested}`);
  if (view.resize) {
    const { resources, by } = view.resize;
    found.push(`${by} wants ${formatResources(resources)} for it; its agent has not answered yet`);
  }
  return found;
}

/** What its node does with it, and what ends the uncertainty. */
function fateOf(
  { agentId }: TaskView,
  { sinceMs, stoppedByMs }: NonNullable<TaskView['unreachable']>,
  nowMs: number,
): string {
  const since = `unreachable since ${formatTime(sinceMs)}, for ${formatSpan(sinceMs, nowMs)}`;
  const until =
    stoppedByMs === undefined
      ? 'it goes on if its node lives, and is running again when the agent is back'
      : `its node has stopped it by ${formatTime(stoppedByMs)}, in ${formatSpan(nowMs, stoppedByMs)}; then it has ended as TASK_GONE`;
  return `${since}\n${until}\nif the node will not come back: kaon gone ${agentId}`;
}

function command(facts: TaskFacts): Line[] {
  const { argv, info, resources, status, endedAtMs } = facts.view;
  const { environment = {}, workingDirectory } = info?.command ?? {};
  const variables = Object.keys(environment);
  const look = endedAtMs === undefined ? 'systemctl status' : 'journalctl -u';
  return [
    ['command', shown(argv, (words) => escapeControls(quoteArgv(words)))],
    ['directory', workingDirectory],
    ...sandboxLines(facts),
    // Values of variables may be secrets; their names say enough here.
    ['variables', variables.length > 0 ? variables.join(' ') : undefined],
    ['limits', formatResources(resources)],
    ['time limit', shown(info?.maxCompletionTimeMs, formatDuration)],
    ['kill grace', shown(info?.killGracePeriodMs, formatDuration)],
    ['unit', shown(status?.unit, (unit) => `${unit}\non its node: ${look} ${quoteArgv([unit])}`)],
  ];
}

/** What is promised of it when nobody can say whether it runs. */
function promises({ rules }: TaskView): Line[] {
  const isExclusive = rules?.exclusive === true;
  return [
    ['if cut off', shown(rules?.whenUnreachable, describeWhenUnreachable)],
    ['exclusive', isExclusive ? 'not while another of its name may run' : undefined],
  ];
}

/** Nothing is said of the default. */
function describeWhenUnreachable(when: WhenUnreachable): string | undefined {
  if (when === 'keep') return undefined;
  return `its node stops it after ${formatDuration(when.stopAfterMs)} without contact`;
}

/** @returns the text for a value, or undefined if there is none */
function shown<T>(
  value: T | undefined,
  text: (value: T) => string | undefined,
): string | undefined {
  return value === undefined ? undefined : text(value);
}

function times({ view, nowMs }: TaskFacts): Line[] {
  const { launchedAtMs, endedAtMs, status } = view;
  const { startedAtMs, endedAtMs: exitedAtMs } = status?.certificate ?? {};
  const age = `${formatTime(launchedAtMs)}, ${formatSpan(launchedAtMs, nowMs)} ago`;
  const ran =
    startedAtMs !== undefined && exitedAtMs !== undefined
      ? formatSpan(startedAtMs, exitedAtMs)
      : undefined;
  return [
    ['launched', age],
    ['ended', endedAtMs === undefined ? undefined : formatTime(endedAtMs)],
    ['ran for', ran],
  ];
}

/** What the kernel and systemd say of a task that has ended. */
function certificateLines(certificate: DeathCertificate | undefined): Line[] {
  if (!certificate) return [];
  const {
    exitCode,
    signal,
    oomKills = 0,
    memoryPeakBytes,
    memoryLimitBytes,
    cpuUsec,
  } = certificate;
  return [
    ['exit code', shown(exitCode, String)],
    ['signal', shown(signal, String)],
    ['oom kills', oomKills > 0 ? String(oomKills) : undefined],
    ['memory peak', shown(memoryPeakBytes, (peak) => formatUse(peak, memoryLimitBytes))],
    ['cpu time', shown(cpuUsec, formatUsec)],
    ['throttled', throttled(certificate)],
    ['output', outputSizes(certificate)],
  ];
}

function throttled({
  throttledUsec,
  startedAtMs,
  endedAtMs,
}: DeathCertificate): string | undefined {
  if (throttledUsec === undefined) return undefined;
  const ranUsec =
    startedAtMs === undefined || endedAtMs === undefined ? 0 : (endedAtMs - startedAtMs) * 1000;
  const share =
    throttledUsec > 0 && ranUsec > 0
      ? ` (${formatPercent(throttledUsec, ranUsec)} of the time)`
      : '';
  return `${formatUsec(throttledUsec)}${share}`;
}

function outputSizes({ stdoutBytes, stderrBytes }: DeathCertificate): string | undefined {
  const sizes = [
    shown(stdoutBytes, (bytes) => `stdout ${formatBytes(bytes)}`),
    shown(stderrBytes, (bytes) => `stderr ${formatBytes(bytes)}`),
  ].filter((size) => size !== undefined);
  return sizes.length > 0 ? sizes.join(', ') : undefined;
}

function history(events: readonly LoggedEvent[], paint: Paint): Line[] {
  if (events.length === 0) return [];
  const lines = events.map(({ atMs, type, state: to, reason, message }) => {
    const what =
      to === undefined || type !== 'task.updated' ? type.replace(/^task\./, '') : shortState(to);
    const why = [reason, message].filter((one) => one !== undefined && one !== '').join(': ');
    return `${paint('dim', formatTime(atMs))}  ${what.padEnd(EVENT_WIDTH)}  ${escapeControls(why)}`.trimEnd();
  });
  return [['history', lines.join('\n')]];
}

function tails({ status, taskId }: TaskView, paint: Paint): Line[] {
  const { stdoutTail, stderrTail, stdoutBytes = 0, stderrBytes = 0 } = status?.certificate ?? {};
  const lines: Line[] = [
    ['stdout', lastLines(stdoutTail)],
    ['stderr', lastLines(stderrTail)],
  ];
  const isCut =
    Buffer.byteLength(stdoutTail ?? '') < stdoutBytes ||
    Buffer.byteLength(stderrTail ?? '') < stderrBytes;
  if (isCut) lines.push(['', paint('dim', `these are the last lines; all: kaon logs ${taskId}`)]);
  return lines;
}

function lastLines(tail: string | undefined): string | undefined {
  if (tail === undefined || tail === '') return undefined;
  const lines = tail.replace(/\n$/, '').split('\n').slice(-TAIL_LINES);
  return lines.map((line) => escapeControls(line.replaceAll('\t', '    '))).join('\n');
}
