/**
 * What must hold after a campaign, judged from what processes, frameworks and Redis have written down, not from Kaon's own
 * books. Pure. Each rule says what it demands in its violation.
 */
import { isTerminal } from '../../protocol/task-state.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import type { TakenCommit } from './commits.ts';
import type { FrameworkRecord } from './records.ts';
import type { PlannedTask, RunLine } from './tasks.ts';

const MIB = 1024 * 1024;
const SIGKILL = 9;
/** An end so shortly before a reboot may not have been read: for so long an agent may stand still on a busy machine. */
const UNREAD_MS = 20_000;
/** What was asked for so long before or after a loss may be part of it: it was sent later, or written by a replica that was behind. */
const LOSS_BEFORE_MS = 2000;
const LOSS_AFTER_MS = 30_000;
/** Reasons of an end before the command ran. */
const NOT_STARTED = [
  'REASON_CONTAINER_LAUNCH_FAILED',
  'REASON_COMMAND_NOT_EXECUTABLE',
  'REASON_SANDBOX_FAILED',
  'REASON_KILLED_DURING_LAUNCH',
];

/** A node whose systemd was ended and booted again, from the first to the second moment. */
export interface Reboot {
  readonly agentId: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** Something that was asked for may be lost with this: Redis has lost data, or a framework was killed before it had sent it. */
export interface Loss {
  readonly atMs: number;
  /** Of whom; absent: of everybody. */
  readonly framework?: string;
}

export interface Evidence {
  readonly runs: readonly RunLine[];
  readonly records: readonly FrameworkRecord[];
  readonly reboots: readonly Reboot[];
  readonly losses: readonly Loss[];
  readonly commits: readonly TakenCommit[];
}

export interface Violation {
  readonly rule: string;
  readonly taskId?: string;
  readonly message: string;
}

/** All that is known of one task. */
interface TaskFacts {
  readonly task: PlannedTask;
  readonly starts: readonly RunLine[];
  readonly end: RunLine | undefined;
  readonly hadTerm: boolean;
  readonly wasKilled: boolean;
  readonly wasRebooted: boolean;
  readonly mayBeLost: boolean;
  /** Different terminal updates, by state and words. */
  readonly terminal: readonly TaskStatus[];
}

export function check(evidence: Evidence): Violation[] {
  const facts = gather(evidence);
  const known = new Set(facts.map(({ task }) => task.taskId));
  const strangers = evidence.runs.filter(({ taskId }) => !known.has(taskId));
  return [
    ...strangers.map(({ taskId }) => violation('never-asked', taskId, 'ran, but was not launched')),
    ...facts.flatMap(checkTask),
    ...checkCommits(evidence.commits),
    ...evidence.records.flatMap((record) =>
      record.type === 'aborted'
        ? [{ rule: 'framework-goes-on', message: `a driver was aborted: ${record.message}` }]
        : [],
    ),
  ];
}

function checkTask(facts: TaskFacts): Violation[] {
  const found = [...runsOnce(facts), ...endsOnce(facts)];
  const [status] = facts.terminal;
  if (facts.starts.length === 0) return [...found, ...(status ? didNotRun(facts, status) : [])];
  return [
    ...found,
    ...isNotStopped(facts),
    ...(status ? [...agrees(facts, status), ...isCertified(facts, status)] : []),
  ];
}

function runsOnce({ task, starts }: TaskFacts): Violation[] {
  const launches = starts.map(({ launchId, pid }) => `${launchId} (pid ${String(pid)})`);
  return starts.length > 1
    ? [
        violation(
          'runs-once',
          task.taskId,
          `ran ${String(starts.length)} times: ${String(launches)}`,
        ),
      ]
    : [];
}

function endsOnce({ task, terminal, starts, mayBeLost }: TaskFacts): Violation[] {
  if (terminal.length === 1) return [];
  if (terminal.length === 0 && starts.length === 0 && mayBeLost) return [];
  const told = terminal.map(({ state, message }) => `${state} (${message ?? ''})`).join(', ');
  return [violation('one-terminal-state', task.taskId, `was told ${told || 'no end'}`)];
}

/** A process that began has come to its end, unless somebody asked for another one. */
function isNotStopped({ task, end, wasKilled, wasRebooted, hadTerm }: TaskFacts): Violation[] {
  const endsEarly = ['dies-by-signal', 'out-of-memory', 'over-time'].includes(task.kind);
  if (end || wasKilled || wasRebooted || endsEarly) return [];
  const how = hadTerm ? 'it got SIGTERM' : 'it is gone without a word';
  return [violation('never-stopped', task.taskId, `began, nobody asked for its end, and ${how}`)];
}

function didNotRun({ task, wasKilled, wasRebooted }: TaskFacts, status: TaskStatus): Violation[] {
  const { state, reason, certificate } = status;
  // Its time may be over before its shell comes to its first line; its peak says that there was a process.
  const wasCutShort =
    task.kind === 'over-time' &&
    reason === 'REASON_MAX_COMPLETION_TIME_REACHED' &&
    (certificate?.memoryPeakBytes ?? 0) > 0;
  const isFine =
    wasCutShort ||
    ['TASK_LOST', 'TASK_DROPPED', 'TASK_ERROR', 'TASK_GONE'].includes(state) ||
    (state === 'TASK_KILLED' && wasKilled) ||
    (state === 'TASK_FAILED' && NOT_STARTED.includes(reason ?? '')) ||
    (state === 'TASK_FAILED' && wasRebooted);
  return isFine
    ? []
    : [violation('agrees', task.taskId, `never ran, but was told as ${words(status)}`)];
}

/** What a task that ran may be told as, from what it did. */
function agrees(facts: TaskFacts, status: TaskStatus): Violation[] {
  const { task, end, wasKilled, wasRebooted } = facts;
  const { state, reason, certificate } = status;
  const isKilled = wasKilled && state === 'TASK_KILLED';
  // What was not read is not known; an exit code that is told has been read, and has to be right.
  const isUnread = !end || [undefined, end.exitCode].includes(certificate?.exitCode);
  if (wasRebooted && state !== 'TASK_FINISHED' && isUnread) return [];
  if (end?.exitCode !== undefined) {
    const expected = end.exitCode === 0 ? 'TASK_FINISHED' : 'TASK_FAILED';
    const isSo = state === expected && certificate?.exitCode === end.exitCode;
    return isSo || isKilled
      ? []
      : [violation('agrees', task.taskId, `exited with ${String(end.exitCode)}, ${words(status)}`)];
  }
  const isSo =
    isKilled ||
    (task.kind === 'out-of-memory' && reason === 'REASON_CONTAINER_LIMITATION_MEMORY') ||
    (task.kind === 'over-time' && reason === 'REASON_MAX_COMPLETION_TIME_REACHED') ||
    (task.kind === 'dies-by-signal' && certificate?.signal === SIGKILL && state === 'TASK_FAILED');
  return isSo
    ? []
    : [
        violation(
          'agrees',
          task.taskId,
          `${task.kind}, without an end of its own, ${words(status)}`,
        ),
      ];
}

/** Exit code, peak memory and the limit: of the certificate, and as the process itself found it. */
function isCertified(facts: TaskFacts, status: TaskStatus): Violation[] {
  const { task, starts, end, wasRebooted } = facts;
  const limitBytes = task.memMib * MIB;
  const found: string[] = [];
  for (const line of [...starts, ...(end ? [end] : [])]) {
    if (line.limitBytes !== limitBytes)
      found.push(`at its ${line.what} its memory limit was ${String(line.limitBytes)}`);
  }
  const { certificate } = status;
  if (!wasRebooted) {
    const peakBytes = certificate?.memoryPeakBytes ?? 0;
    if (!certificate) found.push('it has no certificate');
    else if (peakBytes <= 0) found.push('its peak memory is not known');
    else if (peakBytes > limitBytes) found.push(`its peak of ${String(peakBytes)} is over it`);
    if (certificate && certificate.memoryLimitBytes !== limitBytes)
      found.push(`its certificate says a limit of ${String(certificate.memoryLimitBytes)}`);
  }
  return found.map((message) =>
    violation('certified', task.taskId, `limit ${String(limitBytes)}, but ${message}`),
  );
}

/**
 * One leader at a time: a later epoch never gives way to an earlier one, and an epoch is of one master. A Redis that has
 * lost its data counts epochs anew, but nothing reaches an agent before the epoch is above all that agents have seen.
 */
function checkCommits(commits: readonly TakenCommit[]): Violation[] {
  if (commits.length === 0)
    return [{ rule: 'one-leader', message: 'not one commit was seen: nobody was watched' }];
  const lives = new Set(commits.map(({ life }) => life));
  return [
    ...[...lives].flatMap((life) =>
      checkEpochs(
        'one-leader',
        commits.filter((commit) => commit.life === life),
      ),
    ),
    ...checkEpochs(
      'one-leader-for-agents',
      commits.filter(({ isToAgents }) => isToAgents),
    ),
  ];
}

function checkEpochs(rule: string, commits: readonly TakenCommit[]): Violation[] {
  const found: Violation[] = [];
  const owners = new Map<number, string>();
  let last = 0;
  let before = '';
  for (const { epoch, masterId, atMs } of commits) {
    const token = `${String(epoch)} ${masterId}`;
    if (token === before) continue;
    before = token;
    const owner = owners.get(epoch) ?? masterId;
    const when = new Date(atMs).toISOString();
    const wrote = `at ${when} ${masterId} wrote in epoch ${String(epoch)}`;
    if (epoch < last) found.push({ rule, message: `${wrote} after ${String(last)}` });
    else if (owner !== masterId) found.push({ rule, message: `${wrote} of ${owner}` });
    owners.set(epoch, owner);
    last = epoch;
  }
  return found;
}

function gather({ runs, records, reboots, losses }: Evidence): TaskFacts[] {
  const runsOf = new Map<string, RunLine[]>();
  for (const line of runs) runsOf.set(line.taskId, [...(runsOf.get(line.taskId) ?? []), line]);
  const killed = new Set<string>();
  const terminal = new Map<string, TaskStatus[]>();
  for (const record of records) {
    if (record.type === 'kill') killed.add(record.taskId);
    if (record.type !== 'update' || !isTerminal(record.status.state)) continue;
    const told = terminal.get(record.status.taskId) ?? [];
    // The same end again is what "at least once" means; the one with the certificate says the most.
    const same = told.findIndex((status) => isSameEnd(status, record.status));
    if (same === -1) told.push(record.status);
    else if (!told[same]?.certificate) told[same] = record.status;
    terminal.set(record.status.taskId, told);
  }
  return records.flatMap((record) => {
    if (record.type !== 'launch') return [];
    const { task, agentId, atMs } = record;
    const lines = runsOf.get(task.taskId) ?? [];
    const end = lines.find(({ what }) => what === 'END');
    const endedMs = end?.atMs ?? Infinity;
    return [
      {
        task,
        starts: lines.filter(({ what }) => what === 'START'),
        end,
        hadTerm: lines.some(({ what }) => what === 'TERM'),
        wasKilled: killed.has(task.taskId),
        wasRebooted: reboots.some(
          (reboot) =>
            reboot.agentId === agentId && atMs < reboot.toMs && endedMs > reboot.fromMs - UNREAD_MS,
        ),
        mayBeLost: losses.some((loss) => mayHaveLost(loss, task.taskId, atMs)),
        terminal: terminal.get(task.taskId) ?? [],
      },
    ];
  });
}

function mayHaveLost({ atMs, framework }: Loss, taskId: string, launchedMs: number): boolean {
  const isOfIt = framework === undefined || taskId.startsWith(`${framework}.`);
  return isOfIt && atMs > launchedMs - LOSS_BEFORE_MS && atMs < launchedMs + LOSS_AFTER_MS;
}

/** Told again: the same state, and the same exit code where both say one. */
function isSameEnd(one: TaskStatus, other: TaskStatus): boolean {
  const [first, second] = [one.certificate?.exitCode, other.certificate?.exitCode];
  const isSameCode = first === undefined || second === undefined || first === second;
  return one.state === other.state && isSameCode;
}

function violation(rule: string, taskId: string, message: string): Violation {
  return { rule, taskId, message };
}

function words({ state, reason, message, certificate }: TaskStatus): string {
  const numbers = `exit code ${String(certificate?.exitCode)}, signal ${String(certificate?.signal)}`;
  return `told as ${state} ${reason ?? ''} "${message ?? ''}", ${numbers}`;
}
