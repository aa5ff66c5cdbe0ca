/**
 * The executor, what a TaskTracker was: one on each node, in one container whose limits follow its tasks. Runs each map
 * and reduce task in a process of its own, and serves the outputs of the map tasks. Started by the agent of its node when
 * the first task comes; docs/mapreduce.md tells the story.
 */
import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ExecutorDriver } from 'kaon/executor';
import { startShuffleServer } from './shuffle-server.mjs';

const ATTEMPT = fileURLToPath(new URL('attempt.mjs', import.meta.url));
const MIB = 1_048_576;
/** Of a task's memory what is not JavaScript's heap: the program itself, buffers of files. */
const NOT_HEAP_MIB = 96;
const HEAP_MIN_MIB = 32;

/** Task id -> its process. */
const running = new Map();
/** What the scheduler has said to all of its executors: `{program, reduces, shuffleHost}`. */
let settings;
let shuffle;
/** Why no task can run here; empty if all is well. */
let problem = '';

const sandboxPath = (...names) => join(process.env.KAON_SANDBOX, ...names);

function heapMibOf({ memMib }) {
  return Math.max(HEAP_MIN_MIB, memMib - NOT_HEAP_MIB);
}

/** In a cgroup of its own, where the agent wants that: the shell enters it before anything else is done. */
function commandOf(task, cgroupProcs = []) {
  const node = [process.execPath, `--max-old-space-size=${heapMibOf(task.resources)}`, ATTEMPT];
  if (cgroupProcs.length === 0) return node;
  const enter = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 1; shift; done; shift; exec "$@"';
  return ['/bin/sh', '-c', enter, 'sh', ...cgroupProcs, '--', ...node];
}

function orderFor(task) {
  const { program, reduces } = settings;
  const common = { program: resolve(sandboxPath(), program), reduces };
  const order = { ...common, ...JSON.parse(task.data) };
  if (order.kind === 'map') {
    const bufferBytes = (heapMibOf(task.resources) * MIB) / 3;
    return { ...order, directory: sandboxPath('outputs', task.taskId), bufferBytes };
  }
  return {
    ...order,
    outputs: outputsOf(order.outputs),
    directory: sandboxPath('copies', task.taskId),
  };
}

/** As the scheduler writes them, tracker by tracker; in the order of the map tasks. */
function outputsOf(written) {
  return Object.entries(written)
    .flatMap(([tracker, outputs]) => outputs.split(' ').map((output) => ({ tracker, output })))
    .sort((a, b) => parseInt(a.output, 10) - parseInt(b.output, 10));
}

/** @returns what the process has answered, or how it has ended without that */
function runAttempt(task, cgroupProcs, started) {
  const [program, ...args] = commandOf(task, cgroupProcs);
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  let answer;
  child.once('message', (message) => {
    answer = message;
  });
  child.once('spawn', () => {
    started(child);
    // If it has ended already, its end says so.
    child.send(orderFor(task), () => undefined);
  });
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ message: `no process: ${error.message}`, lost: [] }));
    child.once('close', (code, signal) => {
      const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
      resolve(answer ?? { message: `its process ${how}, without a result`, lost: [] });
    });
  });
}

function endOf(task, { counters, message, lost }) {
  const { isKilled } = running.get(task.taskId);
  if (counters) {
    const { kind, output } = JSON.parse(task.data);
    if (kind === 'map') shuffle.add(output, sandboxPath('outputs', task.taskId));
    return { state: 'TASK_FINISHED', data: JSON.stringify({ tracker: shuffle.url, counters }) };
  }
  if (isKilled) return { state: 'TASK_KILLED', reason: 'REASON_KILLED_BY_FRAMEWORK' };
  return { state: 'TASK_FAILED', message, data: JSON.stringify({ lost }) };
}

async function run(driver, { task, cgroupProcs }) {
  const { taskId } = task;
  const report = (state, more) => driver.sendStatusUpdate({ taskId, state, ...more });
  const answer = await runAttempt(task, cgroupProcs, (child) => {
    running.get(taskId).child = child;
    if (running.get(taskId).isKilled) child.kill('SIGTERM');
    report('TASK_RUNNING');
  });
  const { state, ...more } = endOf(task, answer);
  running.delete(taskId);
  if (state !== 'TASK_FINISHED') await removeTraces(taskId);
  report(state, more);
}

/** What an attempt that has not finished has left; nobody will ask for it. */
async function removeTraces(taskId) {
  for (const name of ['outputs', 'copies']) {
    await rm(sandboxPath(name, taskId), { recursive: true, force: true });
  }
}

function kill(taskId, gracePeriodMs) {
  const attempt = running.get(taskId);
  if (!attempt || attempt.isKilled) return;
  attempt.isKilled = true;
  attempt.child?.kill('SIGTERM');
  setTimeout(() => attempt.child?.kill('SIGKILL'), gracePeriodMs).unref();
}

const driver = new ExecutorDriver({
  async registered(_driver, executorInfo, _frameworkInfo, agentInfo) {
    settings = JSON.parse(executorInfo.data);
    const host = settings.shuffleHost ?? agentInfo.hostname;
    try {
      shuffle = await startShuffleServer(host);
      console.log(`serves outputs of map tasks at ${host}`);
    } catch (error) {
      problem = `outputs of map tasks cannot be served at ${host}: ${error.message}`;
    }
  },
  launchTask(driver, launched) {
    const { taskId } = launched.task;
    if (problem !== '') {
      driver.sendStatusUpdate({ taskId, state: 'TASK_FAILED', message: problem });
      return;
    }
    const attempt = { isKilled: false, child: undefined, ended: undefined };
    running.set(taskId, attempt);
    attempt.ended = run(driver, launched);
  },
  killTask: (_driver, taskId, gracePeriodMs) => kill(taskId, gracePeriodMs),
  async shutdown(_driver, gracePeriodMs) {
    const ended = [...running.values()].map((attempt) => attempt.ended);
    for (const taskId of [...running.keys()]) kill(taskId, gracePeriodMs / 2);
    await Promise.all(ended);
    shuffle?.close();
    // The sandbox is kept for days; the outputs are of no use to anybody.
    for (const name of ['outputs', 'copies']) {
      await rm(sandboxPath(name), { recursive: true, force: true });
    }
  },
  error: (_driver, message) => console.error(message),
});
process.exitCode = (await driver.run()) === 'DRIVER_STOPPED' ? 0 : 1;
