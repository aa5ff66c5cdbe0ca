/** The scheduler of one job: asks for what its tasks need, launches them, and makes of what it hears what the job must know. */
import { isTerminal, requestsOf, REFUSE_DEFAULT_MS } from 'kaon/framework';
import {
  attemptId,
  isDone,
  launchRefused,
  outputName,
  outputsMissing,
  outputsOf,
  outputsOfAgentLost,
  runningTasks,
  taskFailed,
  taskFinished,
  taskLaunched,
  taskLost,
  taskOf,
  waitingTasks,
} from './job.mjs';
import { isHost, place } from './locality.mjs';

/** What a task in that state has done wrong itself; any other end is bad luck. */
const OWN_FAULT = new Set(['TASK_FAILED', 'TASK_ERROR']);
/** No ends for Kaon, because the task may be running; this job would rather have it run somewhere else. */
const NOT_WAITED_FOR = new Set(['TASK_UNREACHABLE', 'TASK_UNKNOWN']);
/** A node whose map outputs could not be had gets no task for so long, or until something is heard of it. */
const SUSPECT_MS = 60_000;

/**
 * @param options.job see job.mjs
 * @param options.executor description of the TaskTracker
 * @param options.resourcesOf `{map, reduce}`: what a task of each kind needs
 * @param options.delay see locality.mjs
 * @param options.output where the results go
 * @param options.report what there is to tell a person: `progress()`, `event(text)`, `warning(text)`
 * @returns a scheduler for a SchedulerDriver, with `totals` to look at when it is over
 */
export function createScheduler({ job, executor, resourcesOf, delay, output, report }) {
  const totals = { near: 0, placed: 0, counters: { map: {}, reduce: {} } };
  /** Agent id -> until when. The master may not know yet that it has gone. */
  const suspects = new Map();
  const describe = (task) => ({
    taskId: attemptId(task),
    name: task.kind,
    resources: resourcesOf[task.kind],
    executor,
    hosts: task.split?.hosts ?? [],
    task,
  });

  function describeLaunch({ hosts: _hosts, task, ...description }) {
    const order =
      task.kind === 'map'
        ? { kind: 'map', output: outputName(task), split: task.split }
        : {
            kind: 'reduce',
            partition: task.index,
            outputs: outputsOf(job),
            target: output.temporaryPath(task),
          };
    return { ...description, data: JSON.stringify(order) };
  }

  /**
   * All that is still needed: with what a TaskTracker needs, for nodes that have none yet, and without, for those that
   * have one and room for just a task more. Twice as much as that; what is too much is given back at once.
   */
  function ask(driver) {
    const waiting = waitingTasks(job).map(describe);
    const alone = waiting.map(({ resources }) => ({ resources }));
    driver.requestResources([...requestsOf(waiting), ...requestsOf(alone)]);
  }

  /** After anything has changed. */
  function goOn(driver) {
    report.progress();
    if (isDone(job) || job.failure !== '') void driver.stop();
    else ask(driver);
  }

  function launch(driver, { agentId, hostname, offerIds, tasks }) {
    // What is left over may come back at once.
    driver.launchTasks(offerIds, tasks.map(describeLaunch), { refuseMs: 0 });
    for (const { task, hosts } of tasks) {
      taskLaunched(task, agentId);
      if (hosts.length === 0) continue;
      totals.placed += 1;
      if (isHost(hosts, { hostname, agentId })) totals.near += 1;
    }
  }

  const decline = (driver, offers, refuseMs) =>
    driver.declineOffer(
      offers.map(({ offerId }) => offerId),
      { refuseMs },
    );

  function finished(task, { data }) {
    const { tracker, counters } = JSON.parse(data);
    if (task.kind === 'reduce') {
      const problem = output.take(task);
      if (problem) return taskFailed(job, task, problem);
    }
    const sums = totals.counters[task.kind];
    for (const [name, value] of Object.entries(counters)) {
      sums[name] =
        name === 'peakKib' ? Math.max(sums[name] ?? 0, value) : (sums[name] ?? 0) + value;
    }
    taskFinished(task, tracker);
  }

  function failed(task, { state, message = state, data, agentId }) {
    const { lost = [] } = data ? JSON.parse(data) : {};
    const name = attemptId(task);
    if (lost.length > 0) {
      taskLost(job, task, message);
      const { count, agentIds } = outputsMissing(job, lost, message);
      for (const suspect of agentIds) suspects.set(suspect, performance.now() + SUSPECT_MS);
      report.event(`${name}: ${message}; ${count} map tasks run again`);
    } else {
      if (OWN_FAULT.has(state)) taskFailed(job, task, message);
      else taskLost(job, task, message);
      report.event(`${name} on ${agentId ?? 'no node'}: ${state}, ${message}`);
    }
  }

  function outputsGone(driver, agentId, message) {
    const count = outputsOfAgentLost(job, agentId, message);
    if (count > 0) report.event(`${message}; ${count} map tasks run again`);
    goOn(driver);
  }

  return {
    totals,
    registered: ask,
    // This process, the master or Redis may have missed something: both sides compare what they know.
    reregistered: (driver) => {
      ask(driver);
      const taskIds = runningTasks(job).map(attemptId);
      if (taskIds.length > 0) driver.reconcileTasks(taskIds);
    },
    disconnected: () => report.warning('no master leads; running tasks go on'),
    resourceOffers: (driver, offers) => {
      const nowMs = performance.now();
      const isSuspect = ({ agentId }) => (suspects.get(agentId) ?? nowMs) > nowMs;
      const waiting = waitingTasks(job).map(describe);
      const welcome = offers.filter((offer) => !isSuspect(offer));
      const {
        launches,
        unusedOffers,
        refuseMs = REFUSE_DEFAULT_MS,
      } = place(welcome, waiting, {
        ...{ delay, nowMs },
        running: (agentId) => runningTasks(job).filter((task) => task.agentId === agentId).length,
      });
      for (const each of launches) launch(driver, each);
      const isEnough = waitingTasks(job).length === 0;
      decline(driver, offers.filter(isSuspect), REFUSE_DEFAULT_MS);
      // Nothing against them, if there is no more to launch: the next task may want them at once.
      decline(driver, unusedOffers, isEnough ? 0 : Math.ceil(refuseMs));
      ask(driver);
    },
    // May come twice: a task that is done is not running any more.
    statusUpdate: (driver, status) => {
      const { taskId, state, reason, agentId, source } = status;
      if (source !== 'SOURCE_MASTER') suspects.delete(agentId);
      const isOver = isTerminal(state) || NOT_WAITED_FOR.has(state);
      const task = taskOf(job, taskId);
      if (task?.state !== 'running') {
        // Of an attempt that does not count: it had been cut off, and is back.
        if (!isOver) driver.killTask(taskId);
        return;
      }
      if (!isOver) return;
      if (reason === 'REASON_INVALID_OFFERS') launchRefused(task);
      else if (state === 'TASK_FINISHED') finished(task, status);
      else failed(task, status);
      goOn(driver);
    },
    executorLost: (driver, _executorId, agentId, message) => {
      suspects.delete(agentId);
      outputsGone(driver, agentId, message);
    },
    agentLost: (driver, agentId) => outputsGone(driver, agentId, `${agentId} has left the cluster`),
    error: (_driver, message) => {
      if (job.failure === '') job.failure = message;
    },
  };
}
