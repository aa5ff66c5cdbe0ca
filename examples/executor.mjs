// An executor of one's own: the `data` of a task is a number, and what it reports at its end the count of the primes
// below that. Named as the command of an executor: `{ argv: ['node', 'executor.mjs'] }`, see docs/executors.md.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ExecutorDriver } from 'kaon/executor';

/** Task id -> how to end the task, and when it has ended. */
const running = new Map();

async function countPrimes(below, signal) {
  let count = 0;
  for (let number = 2; number < below; number += 1) {
    let divisor = 2;
    while (divisor * divisor <= number && number % divisor !== 0) divisor += 1;
    if (divisor * divisor > number) count += 1;
    // All tasks share this process: each lets the others, and the driver, have their turns.
    if (number % 1000 === 0) await nextTurn(undefined, { signal });
  }
  return count;
}

async function run(driver, { taskId, data }, signal) {
  const report = (state, more) => driver.sendStatusUpdate({ taskId, state, ...more });
  report('TASK_RUNNING');
  try {
    if (!/^\d+$/.test(data)) throw new Error(`not a number: ${data}`);
    const count = await countPrimes(Number(data), signal);
    report('TASK_FINISHED', { data: String(count), message: `${count} primes below ${data}` });
  } catch (error) {
    if (signal.aborted) report('TASK_KILLED', { reason: 'REASON_KILLED_BY_FRAMEWORK' });
    else report('TASK_FAILED', { message: error.message });
  } finally {
    running.delete(taskId);
  }
}

const driver = new ExecutorDriver({
  // Returns at once: while a callback is waited for, no other one is called.
  launchTask(driver, { task }) {
    const abort = new AbortController();
    running.set(task.taskId, { abort, ended: run(driver, task, abort.signal) });
  },
  killTask: (_driver, taskId) => running.get(taskId)?.abort.abort(),
  frameworkMessage: (driver, data) => driver.sendFrameworkMessage(`${running.size} tasks, ${data}`),
  // Waited for: what has been reported by then is told to the agent before the driver stops.
  async shutdown() {
    const tasks = [...running.values()];
    for (const { abort } of tasks) abort.abort();
    await Promise.all(tasks.map(({ ended }) => ended));
  },
  error: (_driver, message) => console.error(message),
});
process.exitCode = (await driver.run()) === 'DRIVER_STOPPED' ? 0 : 1;
