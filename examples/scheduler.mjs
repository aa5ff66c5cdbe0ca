// A complete scheduler: runs one command N times in the cluster, and each that fails again, three times at most.
//
//   node examples/scheduler.mjs 20 sh -c 'sleep 1; test $(($$ % 3)) != 0'   # in the cluster at KAON_REDIS
import { SchedulerDriver, isTerminal, packTasks, requestsOf } from 'kaon/framework';

const [count = '5', ...argv] = process.argv.slice(2);
const command = { argv: argv.length > 0 ? argv : ['sleep', '1'] };
const resources = { cpuMillis: 100, memMib: 32 };
const ATTEMPTS_MAX = 3;
const waiting = []; // Not launched yet.
const launched = new Map(); // Launched and not ended, by task id.
let left = Number(count);
let failures = 0;

// Each attempt is another task with another id, so that nothing said of one is taken for the other.
function add(name, attempt) {
  const labels = { attempt: String(attempt) };
  waiting.push({ taskId: `${name}.${attempt}`, name, resources, command, labels });
}

// Says all that is still needed; the master offers that, on whichever nodes have it, and nothing more.
const ask = (driver) => driver.requestResources(requestsOf(waiting));
const scheduler = {
  registered: ask,
  // This process, the master or Redis may have missed something: both sides compare what they know.
  reregistered: (driver) => {
    ask(driver);
    if (launched.size > 0) driver.reconcileTasks([...launched.keys()]);
  },
  resourceOffers: (driver, offers) => {
    const { launches, unplaced, unusedOffers } = packTasks(offers, waiting.splice(0));
    for (const { offerIds, tasks } of launches) {
      driver.launchTasks(offerIds, tasks, { refuseMs: 0 }); // What is left over may come back at once.
      for (const task of tasks) launched.set(task.taskId, task);
    }
    waiting.push(...unplaced);
    driver.declineOffer(unusedOffers.map(({ offerId }) => offerId));
    ask(driver);
  },
  // May come twice, so only the first end of a task counts. It is acknowledged when this returns.
  statusUpdate: (driver, { taskId, state, reason, message = '' }) => {
    const task = launched.get(taskId);
    if (!task || !(isTerminal(state) || state === 'TASK_UNKNOWN')) return;
    launched.delete(taskId);
    const attempt = Number(task.labels.attempt);
    if (state !== 'TASK_FINISHED') console.log(taskId, state, message);
    if (reason === 'REASON_INVALID_OFFERS')
      waiting.push(task); // The offer had gone: nothing has run.
    else if (state !== 'TASK_FINISHED' && attempt < ATTEMPTS_MAX) add(task.name, attempt + 1);
    else [left, failures] = [left - 1, failures + (state === 'TASK_FINISHED' ? 0 : 1)];
    if (left === 0) void driver.stop();
    else ask(driver);
  },
  error: (_driver, message) => console.error(message),
};
for (let step = 1; step <= left; step += 1) add(`step-${step}`, 1);
await new SchedulerDriver(scheduler, { name: 'scheduler' }).run(); // Until `stop`, or an error.
console.log(`${count - left} of ${count} commands are done, ${failures} of them failed`);
process.exitCode = left + failures > 0 ? 1 : 0;
