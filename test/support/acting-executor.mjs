// An executor made with `kaon/executor` that does as the `data` of its tasks says:
//   finish TEXT     RUNNING, FINISHED with that as data
//   hold            RUNNING, until it is killed
//   leave CODE      ends the executor itself
//   flood MS        says updates and messages as fast as it can for so long, then FINISHED with their numbers
//   deaf            RUNNING, and from then on neither kills nor a shutdown is obeyed
//   spawn SHELL     RUNNING, runs that and forgets it
//   wait PATH SIZE  RUNNING, FINISHED with so many characters of data once there is that file; then one more in PATH.said
// A message is answered with `PID: MESSAGE`, or with as many characters as `repeat COUNT` says.
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ExecutorDriver } from 'kaon/executor';

/** What has been said and not been heard must not fill the memory of this process. */
const MEMORY_MAX_BYTES = 256 << 20;

const running = new Set();
let isDeaf = false;

async function flood(driver, taskId, forMs) {
  const endMs = Date.now() + forMs;
  let count = 0;
  while (Date.now() < endMs) {
    const isFull = process.memoryUsage.rss() > MEMORY_MAX_BYTES;
    for (let index = 0; index < 100 && !isFull; index += 1) {
      count += 1;
      driver.sendStatusUpdate({ taskId, state: 'TASK_RUNNING', message: `update ${count}` });
      driver.sendFrameworkMessage(`message ${count} ${'x'.repeat(1000)}`);
    }
    await nextTurn();
  }
  driver.sendStatusUpdate({ taskId, state: 'TASK_FINISHED', data: String(count) });
}

function wait(driver, taskId, [path, size]) {
  const timer = setInterval(() => {
    if (!existsSync(path)) return;
    clearInterval(timer);
    running.delete(taskId);
    driver.sendStatusUpdate({ taskId, state: 'TASK_FINISHED', data: 'z'.repeat(Number(size)) });
    appendFileSync(`${path}.said`, 'x');
  }, 20);
}

const driver = new ExecutorDriver({
  launchTask(driver, { task }) {
    const { taskId, data = '' } = task;
    const [word, ...rest] = data.split(' ');
    const argument = rest.join(' ');
    if (word === 'leave') process.exit(Number(argument));
    driver.sendStatusUpdate({ taskId, state: 'TASK_RUNNING' });
    running.add(taskId);
    if (word === 'deaf') isDeaf = true;
    if (word === 'wait') wait(driver, taskId, rest);
    if (word === 'flood') void flood(driver, taskId, Number(argument));
    if (word === 'spawn') {
      spawn('/bin/sh', ['-c', argument], { detached: true, stdio: 'ignore' }).unref();
    }
    if (word === 'finish') {
      running.delete(taskId);
      driver.sendStatusUpdate({ taskId, state: 'TASK_FINISHED', data: argument });
    }
  },
  killTask(driver, taskId) {
    if (isDeaf) return;
    if (running.delete(taskId)) driver.sendStatusUpdate({ taskId, state: 'TASK_KILLED' });
  },
  frameworkMessage(driver, data) {
    const [, length] = /^repeat (\d+)$/.exec(data) ?? [];
    if (length === undefined) driver.sendFrameworkMessage(`${process.pid}: ${data}`);
    else driver.sendFrameworkMessage('y'.repeat(Number(length)));
  },
  async shutdown(driver) {
    while (isDeaf) await new Promise((done) => setTimeout(done, 1000));
    for (const taskId of running) driver.sendStatusUpdate({ taskId, state: 'TASK_KILLED' });
  },
  error: (_driver, message) => {
    process.stderr.write(`${message}\n`);
  },
});
process.exitCode = (await driver.run()) === 'DRIVER_STOPPED' ? 0 : 1;
