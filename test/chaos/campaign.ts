/**
 * One campaign: a cluster, tasks all the time, the faults of a seed, then quiet; then everything has to come to its end
 * within a bound, and what was written down has to agree.
 */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isTerminal } from '../../protocol/task-state.ts';
import { seededRandom } from '../sim/random.ts';
import { check, type Evidence, type Violation } from './checks.ts';
import type { Chronicle, Line } from './chronicle.ts';
import { Cluster } from './cluster.ts';
import { inject } from './faults.ts';
import { planFaults, possibleFaults, type FaultKind, type PlannedFault } from './plan.ts';
import type { FrameworkRecord } from './records.ts';
import { parseRuns } from './tasks.ts';

/** From the last fault until all tasks have ended and are told: the longest task, and much more than everything else needs. */
const DRAIN_BOUND_MS = 60_000;
/** From then until units, checkpoints, slices, offers and records are gone. */
const CLEAN_BOUND_MS = 45_000;
const STOP_BOUND_MS = 10_000;
const WARM_UP_MS = 3000;
const POLL_MS = 500;

export interface CampaignOptions {
  readonly directory: string;
  readonly programs: string;
  readonly seed: number;
  readonly seconds: number;
  readonly only: readonly FaultKind[];
  /** Redis is watched by Sentinel; then there are no gateways, and no faults on them. */
  readonly isWatched: boolean;
  readonly chronicle: Chronicle;
  /** Aborted by Ctrl-C: the campaign ends as soon as it can, and has no verdict. */
  readonly signal: AbortSignal;
}

export interface Outcome {
  readonly faults: ReadonlyMap<FaultKind, number>;
  readonly launched: number;
  readonly started: number;
  readonly finished: number;
  readonly commits: number;
  readonly epochs: number;
  readonly violations: readonly Violation[];
}

export async function runCampaign(options: CampaignOptions): Promise<Outcome> {
  const { chronicle, seed, seconds, only, isWatched, signal } = options;
  const cluster = await Cluster.start(options);
  const violations: Violation[] = [];
  try {
    chronicle.say('3 masters, 2 nodes, 3 frameworks are up');
    await sleep(WARM_UP_MS, undefined, { signal });
    const faults = planFaults(seededRandom(seed), seconds, possibleFaults(only, isWatched));
    await injectAll(faults, cluster, options);
    violations.push(...(await comeToRest(cluster, options)));
    const evidence = gather(cluster);
    violations.push(...check(evidence));
    chronicle.merge(linesOf(evidence));
    return summarize(faults, evidence, violations);
  } finally {
    // A Redis that is not there, as after Ctrl-C on a terminal, must not hold the end up: all of it dies with us anyway.
    await Promise.race([cluster.stopFrameworks(), sleep(STOP_BOUND_MS)]);
    await cluster.stop();
  }
}

/** Each at its time; those that take hold of the same thing wait for each other. */
async function injectAll(
  faults: readonly PlannedFault[],
  cluster: Cluster,
  { chronicle, signal }: CampaignOptions,
): Promise<void> {
  const startedAtMs = performance.now();
  const busy = new Map<string, Promise<void>>();
  for (const fault of faults) {
    const holds = fault.on === 'node' ? cluster.nodeOf(fault).agentId : fault.on;
    await busy.get(holds);
    const waitMs = startedAtMs + fault.atMs - performance.now();
    if (waitMs > 0) await sleep(waitMs, undefined, { signal });
    signal.throwIfAborted();
    const lasting = fault.forMs > 0 ? ` for ${String(fault.forMs)} ms` : '';
    const { whom, done } = await inject(fault, cluster);
    chronicle.say(`${fault.kind}${lasting}: ${whom}`);
    busy.set(
      holds,
      done.catch((error: unknown) =>
        chronicle.say(`${fault.kind} could not be done: ${String(error)}`),
      ),
    );
  }
  await Promise.all(busy.values());
}

async function comeToRest(cluster: Cluster, options: CampaignOptions): Promise<Violation[]> {
  const { chronicle, signal } = options;
  chronicle.say('no more faults');
  cluster.drain();
  const isDrained = await within(DRAIN_BOUND_MS, signal, () => cluster.isDrained());
  chronicle.say(isDrained ? 'all tasks have ended' : 'not all tasks have ended in time');
  let left: string[] = [];
  const isClean = await within(CLEAN_BOUND_MS, signal, async () => {
    left = await cluster.leftovers();
    return left.length === 0;
  });
  chronicle.say(isClean ? 'nothing is left of them' : `left: ${left.join(', ')}`);
  await cluster.stopFrameworks();
  let frameworks: string[] = [];
  await within(CLEAN_BOUND_MS, signal, async () => {
    frameworks = await cluster.registry('frameworks');
    return frameworks.length === 0;
  });
  return [...(isClean ? [] : left), ...frameworks].map((what) => ({
    rule: 'drains',
    message: `still there when all is over: ${what}`,
  }));
}

async function within(
  boundMs: number,
  signal: AbortSignal,
  holds: () => boolean | Promise<boolean>,
): Promise<boolean> {
  const deadlineMs = performance.now() + boundMs;
  while (performance.now() < deadlineMs) {
    if (await holds()) return true;
    await sleep(POLL_MS, undefined, { signal });
  }
  return false;
}

function gather(cluster: Cluster): Evidence {
  const { runsPath, nodes, watch, child } = cluster;
  return {
    runs: parseRuns(existsSync(runsPath) ? readFileSync(runsPath, 'utf8') : ''),
    records: cluster.records(),
    reboots: nodes.flatMap(({ reboots }) => reboots),
    losses: [
      ...watch.lossesMs.map((atMs) => ({ atMs })),
      ...child.crashesMs.map((atMs) => ({ atMs, framework: 'child' })),
    ],
    commits: watch.taken,
  };
}

/** What tasks and frameworks have written down, for the log. */
function linesOf({ runs, records }: Evidence): Line[] {
  const ofRuns = runs.map(({ what, taskId, pid, atMs, exitCode }) => {
    const code = exitCode === undefined ? '' : ` exit code ${String(exitCode)}`;
    return { atMs, source: 'task', text: `${what} ${taskId} pid ${String(pid)}${code}` };
  });
  const ofRecords = records.map((record) => ({
    atMs: record.atMs,
    source: 'framework',
    text: describeRecord(record),
  }));
  return [...ofRuns, ...ofRecords];
}

function describeRecord(record: FrameworkRecord): string {
  switch (record.type) {
    case 'launch':
      return `launch ${record.task.taskId} (${record.task.kind}) on ${record.agentId}`;
    case 'kill':
      return `kill ${record.taskId} by ${record.by}`;
    case 'update': {
      const { taskId, state, source, reason = '', message = '', certificate } = record.status;
      const said = certificate?.stderrTail ? ` (${certificate.stderrTail.trim()})` : '';
      return `update ${taskId} ${state} ${source} ${reason} ${message}${said}`;
    }
    case 'aborted':
      return `aborted ${record.message}`;
    case 'drained':
      return 'drained';
    default:
      return record satisfies never;
  }
}

function summarize(
  faults: readonly PlannedFault[],
  { records, runs, commits }: Evidence,
  violations: readonly Violation[],
): Outcome {
  const counts = new Map<FaultKind, number>();
  for (const { kind } of faults) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const ended = records.flatMap((record) =>
    record.type === 'update' && isTerminal(record.status.state) ? [record.status.taskId] : [],
  );
  return {
    faults: counts,
    launched: records.filter(({ type }) => type === 'launch').length,
    started: new Set(runs.map(({ taskId }) => taskId)).size,
    finished: new Set(ended).size,
    commits: commits.length,
    epochs: new Set(commits.map(({ epoch, masterId }) => `${String(epoch)} ${masterId}`)).size,
    violations,
  };
}
