/**
 * What the tasks of a campaign do. Each tells a file, that all share and nothing of Kaon's reads, when it begins and when
 * it ends, and which memory limit it found itself under.
 */
import type { TaskDescription } from '../../framework/scheduler-driver.ts';
import type { Random } from '../sim/random.ts';

/** How a task of a kind is meant to end. `killed` and `ended-by-operator` go on until they are told to stop. */
export const KINDS = [
  'finishes',
  'fails',
  'long',
  'dies-by-signal',
  'out-of-memory',
  'over-time',
  'killed',
  'killed-by-operator',
  'not-executable',
] as const;
export type Kind = (typeof KINDS)[number];

/** Among a hundred, about. */
const WEIGHTS: Readonly<Record<Kind, number>> = {
  finishes: 38,
  fails: 18,
  long: 14,
  'dies-by-signal': 5,
  'out-of-memory': 5,
  'over-time': 5,
  killed: 8,
  'killed-by-operator': 2,
  'not-executable': 5,
};

/** A task as it was launched; what the checkers know of what it should do. */
export interface PlannedTask {
  readonly taskId: string;
  readonly kind: Kind;
  readonly exitCode: number;
  readonly seconds: number;
  readonly memMib: number;
  /** How long after it runs it is killed, for the kinds that are. */
  readonly killAfterMs: number;
}

/** `START|TERM|END id launch pid ms [exit code] limit`; each is one short write with O_APPEND. */
const SCRIPT = `
launch=\${KAON_SANDBOX%/work}; who="$KAON_TASK_ID \${launch##*/} $$"
limit() {
  while IFS=: read -r _ names path; do
    case ",$names," in
      *,memory,*) file=/sys/fs/cgroup/memory$path/memory.limit_in_bytes;;
      ,,) file=/sys/fs/cgroup$path/memory.max;;
      *) continue;;
    esac
    if [ -e "$file" ]; then read -r bytes < "$file"; echo "$bytes"; return; fi
  done < /proc/self/cgroup
  echo unknown
}
say() { echo "$1 $who $(date +%s%3N) $2 $(limit)" >> "$CHAOS_RUNS"; }
say START -
trap 'say TERM -; exit 143' TERM
case $1 in
  dies-by-signal) kill -9 $$;;
  out-of-memory) dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; sleep 600;;
  over-time | killed | killed-by-operator) sleep 600;;
  *) sleep "$2";;
esac
say END "$3"
exit "$3"
`;

export function planTask(taskId: string, random: Random): PlannedTask {
  const kind = pickKind(random);
  const seconds = kind === 'long' ? random.int(6, 14) : random.int(0, 20) / 10;
  return {
    taskId,
    kind,
    seconds,
    exitCode: kind === 'fails' ? random.int(1, 99) : 0,
    memMib: random.pick([16, 24, 32]),
    killAfterMs: random.int(100, 2500),
  };
}

export function describeTask(task: PlannedTask, runsPath: string): TaskDescription {
  const { taskId, kind, seconds, exitCode, memMib } = task;
  const argv =
    kind === 'not-executable'
      ? ['/nonexistent/program']
      : ['sh', '-c', SCRIPT, 'task', kind, String(seconds), String(exitCode)];
  return {
    taskId,
    name: kind,
    resources: { cpuMillis: 100, memMib },
    killGracePeriodMs: 1000,
    ...(kind === 'over-time' && { maxCompletionTimeMs: 2500 }),
    command: { argv, environment: { CHAOS_RUNS: runsPath } },
  };
}

function pickKind(random: Random): Kind {
  const total = KINDS.reduce((sum, kind) => sum + WEIGHTS[kind], 0);
  let left = random.int(1, total);
  for (const kind of KINDS) {
    left -= WEIGHTS[kind];
    if (left <= 0) return kind;
  }
  return 'finishes';
}

/** One line that a task has written. */
export interface RunLine {
  readonly what: 'START' | 'TERM' | 'END';
  readonly taskId: string;
  readonly launchId: string;
  readonly pid: number;
  readonly atMs: number;
  /** Of END. */
  readonly exitCode: number | undefined;
  /** Undefined where the task could not read it. */
  readonly limitBytes: number | undefined;
}

/** @throws Error on a line that no task can have written whole */
export function parseRuns(text: string): RunLine[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [what, taskId = '', launchId = '', pid, atMs, exitCode, limit, ...more] =
        line.split(' ');
      if (
        (what !== 'START' && what !== 'TERM' && what !== 'END') ||
        limit === undefined ||
        more.length > 0
      )
        throw new Error(`not a line of a task: ${line}`);
      return {
        what,
        taskId,
        launchId,
        pid: Number(pid),
        atMs: Number(atMs),
        exitCode: exitCode === '-' ? undefined : Number(exitCode),
        limitBytes: /^\d+$/.test(limit) ? Number(limit) : undefined,
      };
    });
}
