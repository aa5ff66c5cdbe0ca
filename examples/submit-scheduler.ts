// A scheduler to move into the cluster: keeps some long tasks running, wherever it runs itself.
//
//   kaon submit examples/submit-scheduler.ts -- 3 sleep 100000
//   KEEP_ON=rack=a1 ...                        its tasks only on nodes with that attribute
import { isTerminal, packTasks, requestsOf, SchedulerDriver } from 'kaon/framework';
import type { Scheduler, TaskId } from 'kaon/framework';

const [count = '2', ...argv] = process.argv.slice(2);
const command = { argv: argv.length > 0 ? argv : ['sleep', '1000000'] };
const resources = { cpuMillis: 100, memMib: 32 };
const [key, value = ''] = (process.env['KEEP_ON'] ?? '').split('=');
const attributes: Record<string, string> = key ? { [key]: value } : {};

// The ids are always the same: so a scheduler that was started anew knows what its predecessor has launched.
const taskIds = Array.from({ length: Number(count) }, (_, index) => `keep-${index}` as TaskId);
const missing = new Set<TaskId>();
const tasks = () => [...missing].map((taskId) => ({ taskId, name: taskId, resources, command }));
const request = () => requestsOf(tasks()).map((each) => ({ ...each, attributes }));

const scheduler: Scheduler = {
  registered: (driver) => {
    for (const taskId of taskIds) missing.add(taskId);
    driver.requestResources(request());
  },
  // Known before: what runs goes on, and what is TASK_UNKNOWN is missing.
  reregistered: (driver) => {
    driver.requestResources(request());
    driver.reconcileTasks(taskIds);
  },
  resourceOffers: (driver, offers) => {
    const { launches, unusedOffers } = packTasks(offers, tasks());
    for (const launch of launches) {
      driver.launchTasks(launch.offerIds, launch.tasks, { refuseMs: 0 });
      for (const { taskId } of launch.tasks) missing.delete(taskId);
    }
    driver.declineOffer(unusedOffers.map(({ offerId }) => offerId));
    driver.requestResources(request());
  },
  statusUpdate: (driver, { taskId, state, message = '' }) => {
    console.log(taskId, state, message);
    if (!taskIds.includes(taskId) || !(isTerminal(state) || state === 'TASK_UNKNOWN')) return;
    missing.add(taskId);
    driver.requestResources(request());
  },
  error: (_driver, message) => console.error(message),
};

const driver = new SchedulerDriver(scheduler, { name: 'keeper' });
// Its host ends: the tasks go on, and it comes back somewhere else.
process.once('SIGTERM', () => void driver.stop(true));
console.log(`keeping ${taskIds.length} tasks as framework ${driver.frameworkId}`);
process.exitCode = (await driver.run()) === 'DRIVER_ABORTED' ? 1 : 0;
