/**
 * What a JobTracker knows of its job: which tasks there are, which attempt of each counts, where the outputs of map tasks
 * are, and what has to be done again when something is lost. Pure: it starts nothing, and says what has changed.
 *
 * A task is `waiting`, `running` or `done`. Each attempt is a task of its own for Kaon, `map-3.0`, `map-3.1`, ...; what is
 * said of an attempt that does not count any more changes nothing.
 */

/** Tasks that are lost are not to blame; but what is lost as often as that is not bad luck. */
const LOSSES_MAX = 20;

/**
 * @param splits of the map tasks
 * @param options.attemptsMax so often a task may fail before the job has
 */
export function createJob(splits, { reduces, attemptsMax }) {
  const create = (kind, index, more) => ({
    ...{ kind, index, state: 'waiting', attempt: 0, failures: 0, losses: 0 },
    ...{ agentId: undefined, tracker: undefined, ...more },
  });
  return {
    attemptsMax,
    maps: splits.map((split, index) => create('map', index, { split })),
    reduces: Array.from({ length: reduces }, (_, index) => create('reduce', index)),
    /** Why the job has failed; empty if it has not. */
    failure: '',
    /** Attempts beyond the first. */
    repeated: 0,
  };
}

/** Of the attempt of a task that counts. */
export const attemptId = ({ kind, index, attempt }) => `${kind}-${index}.${attempt}`;

/** @returns undefined for an attempt that does not count (any more) */
export function taskOf(job, taskId) {
  const [, kind, index] = /^(map|reduce)-(\d+)\.\d+$/.exec(taskId) ?? [];
  const task = (kind === 'map' ? job.maps : job.reduces)[Number(index)];
  return task && attemptId(task) === taskId ? task : undefined;
}

/** What can be started now: reduce tasks need the outputs of all map tasks. */
export function waitingTasks({ maps, reduces, failure }) {
  if (failure !== '') return [];
  const isWaiting = ({ state }) => state === 'waiting';
  return maps.every(({ state }) => state === 'done')
    ? reduces.filter(isWaiting)
    : maps.filter(isWaiting);
}

export const runningTasks = ({ maps, reduces }) =>
  [...maps, ...reduces].filter(({ state }) => state === 'running');

export const isDone = ({ reduces }) => reduces.every(({ state }) => state === 'done');

export const countDone = (tasks) => tasks.filter(({ state }) => state === 'done').length;

export function taskLaunched(task, agentId) {
  task.state = 'running';
  task.agentId = agentId;
}

/** @param tracker where the output of a map task can be had */
export function taskFinished(task, tracker) {
  task.state = 'done';
  task.tracker = tracker;
}

/** Nothing of it has run: it may be launched again as it is. */
export function launchRefused(task) {
  task.state = 'waiting';
}

/** Its own fault, as far as anybody knows. */
export function taskFailed(job, task, message) {
  task.failures += 1;
  if (task.failures >= job.attemptsMax) {
    fail(job, `${task.kind} ${task.index} has failed ${task.failures} times, at last: ${message}`);
  }
  runAgain(job, task);
}

/** Not its own fault: its node has gone, somebody has killed it, what it needed was not there. */
export function taskLost(job, task, message) {
  task.losses += 1;
  if (task.losses >= LOSSES_MAX) {
    fail(job, `${task.kind} ${task.index} was lost ${task.losses} times, at last: ${message}`);
  }
  runAgain(job, task);
}

/** All outputs that are in an executor that has ended are gone with it. @returns how many map tasks run again */
export function outputsOfAgentLost(job, agentId, message) {
  // Nobody needs an output when the reduce tasks have what they need.
  if (isDone(job)) return 0;
  const gone = job.maps.filter((map) => map.state === 'done' && map.agentId === agentId);
  for (const map of gone) taskLost(job, map, message);
  return gone.length;
}

/**
 * @param outputs names as in `outputsOf`; of those only what still counts
 * @returns how many map tasks run again, and on which agents their outputs were
 */
export function outputsMissing(job, outputs, message) {
  const gone = outputs
    .map((output) => taskOf(job, `map-${output}`))
    .filter((map) => map?.state === 'done');
  const agentIds = new Set(gone.map(({ agentId }) => agentId));
  for (const map of gone) taskLost(job, map, message);
  return { count: gone.length, agentIds };
}

/** Where reduce tasks find what they need: address of a tracker -> `0.0 1.0 4.2`, map tasks and their attempts. */
export function outputsOf({ maps }) {
  const outputs = {};
  for (const map of maps) (outputs[map.tracker] ??= []).push(outputName(map));
  return Object.fromEntries(
    Object.entries(outputs).map(([tracker, names]) => [tracker, names.join(' ')]),
  );
}

export const outputName = ({ index, attempt }) => `${index}.${attempt}`;

function fail(job, why) {
  if (job.failure === '') job.failure = why;
}

function runAgain(job, task) {
  task.attempt += 1;
  task.state = 'waiting';
  task.agentId = undefined;
  task.tracker = undefined;
  job.repeated += 1;
}
