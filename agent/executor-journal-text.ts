/**
 * The text of an executor's journal: a head that says whose it is, and lines `LAUNCH TYPE JSON`, of the launch that they are
 * about (`-`: the executor itself). What is over can be dropped without reading the JSON.
 */
import { z } from 'zod';
import { ExecutorInfo } from '../protocol/executor.ts';
import { ExecutorUpdate } from '../protocol/executor-messages.ts';
import { AgentId, LaunchId } from '../protocol/ids.ts';
import { Resources } from '../protocol/resources.ts';
import { DeathCertificate, FrameworkInfo, TaskInfo, TaskStatus } from '../protocol/task.ts';
import { ENDED_KEEP_COUNT } from './core/ended.ts';
import type { JournalLine } from './core/events.ts';
import { UPDATES_KEEP_COUNT } from './core/updates.ts';

/** Version of the files; one that this agent does not know is set aside. */
export const JOURNAL_VERSION = 1;

/** First line of a journal: whose it is. */
export const JournalHead = z.object({
  version: z.literal(JOURNAL_VERSION),
  agentId: AgentId,
  framework: FrameworkInfo,
  detached: z.boolean(),
  info: ExecutorInfo,
  launchId: LaunchId,
  unit: z.string(),
});
export type JournalHead = z.infer<typeof JournalHead>;

const Line = z.discriminatedUnion('type', [
  z.object({ type: z.literal('registered') }),
  z.object({
    type: z.literal('launch'),
    launchId: LaunchId,
    task: TaskInfo,
    groupSize: z.int().optional(),
  }),
  z.object({
    type: z.literal('update'),
    taken: z.object({ update: ExecutorUpdate, certificate: DeathCertificate.optional() }),
  }),
  z.object({ type: z.literal('end'), status: TaskStatus }),
  z.object({
    type: z.literal('kill'),
    launchId: LaunchId,
    by: z.enum(['framework', 'operator', 'preemption', 'master', 'agent']),
    gracePeriodMs: z.int().min(0),
  }),
  z.object({ type: z.literal('resize'), launchId: LaunchId, resources: Resources }),
  z.object({ type: z.literal('acknowledged'), launchId: LaunchId }),
]);

/** A journal as the agent before this one has left it. */
export interface ReadJournal {
  readonly head: JournalHead;
  readonly lines: readonly JournalLine[];
}

/** Of lines that supersede each other so many of a launch are kept; of others all. */
const KEEP_COUNTS: Readonly<Record<JournalLine['type'], number>> = {
  registered: 1,
  launch: Infinity,
  update: UPDATES_KEEP_COUNT,
  end: Infinity,
  kill: 1,
  resize: 1,
  acknowledged: 1,
};

/** One line, without its end. */
export function textOf(line: JournalLine): string {
  return `${launchOf(line)} ${line.type} ${JSON.stringify(line)}`;
}

function launchOf(line: JournalLine): string {
  switch (line.type) {
    case 'registered':
      return '-';
    case 'update':
      return line.taken.update.launchId;
    case 'end':
      return line.status.launchId ?? '-';
    default:
      return line.launchId;
  }
}

/** @returns the file as it was written; `problem` if it is no journal */
export function readJournal(
  text: string,
): (ReadJournal & { readonly bad: readonly string[] }) | { readonly problem: string } {
  const [first = '', ...rest] = text.split('\n');
  const head = JournalHead.safeParse(parse(first));
  if (!head.success) return { problem: head.error.message };
  const lines: JournalLine[] = [];
  const bad: string[] = [];
  for (const each of rest) {
    if (each === '') continue;
    const line = Line.safeParse(parse(each.slice(each.indexOf('{'))));
    if (line.success) lines.push(line.data as JournalLine);
    else bad.push(line.error.message);
  }
  return { head: head.data, lines, bad };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A line that an agent did not finish before it died; the schema says that it is none.
    return undefined;
  }
}

/**
 * Nothing of launches whose ends are acknowledged, but for the last of them, as in memory; and of what has been said again
 * and again the newest.
 */
export function withoutOld(text: string): string {
  const [head = '', ...rest] = text.split('\n');
  const acknowledged = rest.flatMap((line) => {
    const [launch = '', type] = line.split(' ', 2);
    return type === 'acknowledged' ? [launch] : [];
  });
  const over = new Set(acknowledged.slice(0, -ENDED_KEEP_COUNT));
  const counts = new Map<string, number>();
  const isNeeded = (line: string): boolean => {
    const [launch = '', type = ''] = line.split(' ', 2);
    if (line === '' || over.has(launch)) return false;
    const kind = `${launch} ${type}`;
    const count = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, count);
    return count <= (KEEP_COUNTS[type as JournalLine['type']] ?? 0);
  };
  return `${[head, ...rest.reverse().filter(isNeeded).reverse()].join('\n')}\n`;
}
