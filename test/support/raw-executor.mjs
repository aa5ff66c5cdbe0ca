// An executor that speaks the wire protocol by hand and does as the `data` of its tasks says:
//   finish        RUNNING, FINISHED
//   hold          RUNNING, until it is killed
//   alloc MIB     RUNNING, and keeps so much memory; freed when killed
//   churn MIB MS  RUNNING, uses so much memory for so long, FINISHED
//   exit CODE     ends the executor itself
//   spawn SHELL   RUNNING, runs it in a session of its own, FINISHED when it ends
//   ignore        from then on no kill and no shutdown is obeyed
//   say JSON      writes that to the agent, as it is
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const { KAON_EXECUTOR_SOCKET, KAON_EXECUTOR_TOKEN_FILE, KAON_FRAMEWORK_ID, KAON_EXECUTOR_ID } =
  process.env;
const token = readFileSync(KAON_EXECUTOR_TOKEN_FILE, 'utf8');
const tasks = new Map();
const updates = new Map();
let socket;
let isBack = false;
let isObedient = true;
let count = 0;
let own = 0;

const send = (message) => socket?.write(`${JSON.stringify(message)}\n`);

function update(launched, state, more = {}) {
  const { launchId, task } = launched;
  launched.hasEnded = /FINISHED|FAILED|KILLED|ERROR/.test(state);
  count += 1;
  const said = { taskId: task.taskId, launchId, updateId: `u${count}`, state, ...more };
  updates.set(said.updateId, said);
  send({ type: 'StatusUpdate', update: said });
}

/** The limit of the container that the kernel holds now, and what has to be in it. */
function containerMib() {
  const line = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .find((text) => text.split(':')[1] === 'memory');
  const path = line.split(':').slice(2).join(':');
  const limit = readFileSync(`/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`);
  const live = [...tasks.values()].filter(({ hasEnded }) => hasEnded !== true);
  const sum = live.reduce((total, { task }) => total + task.resources.memMib, own);
  return { limit: Number(limit) / 1024 / 1024, sum };
}

function runTask(launched) {
  const { launchId, task } = launched;
  if (tasks.has(launchId)) return;
  tasks.set(launchId, launched);
  const { limit, sum } = containerMib();
  if (limit < sum) {
    return void update(launched, 'TASK_ERROR', { message: `limit ${limit} below the sum ${sum}` });
  }
  const [word, ...rest] = (task.data ?? 'finish').split(' ');
  const argument = rest.join(' ');
  if (word === 'exit') process.exit(Number(argument));
  if (word === 'say') return void socket.write(`${argument}\n`);
  update(launched, 'TASK_RUNNING');
  if (word === 'finish') update(launched, 'TASK_FINISHED', { message: 'done' });
  if (word === 'ignore') isObedient = false;
  if (word === 'alloc') launched.memory = Buffer.alloc(Number(argument) * 1024 * 1024, 1);
  if (word === 'churn') {
    launched.memory = Buffer.alloc(Number(rest[0]) * 1024 * 1024, 1);
    setTimeout(() => {
      delete launched.memory;
      globalThis.gc();
      update(launched, 'TASK_FINISHED');
    }, Number(rest[1]));
  }
  if (word === 'spawn') {
    const join = (launched.cgroupProcs ?? []).map((path) => `echo 0 > ${path}`).join(' && ');
    const script = join === '' ? argument : `${join} && ${argument}`;
    const child = spawn('sh', ['-c', script], { detached: true, stdio: 'ignore' });
    child.on('exit', (exitCode, signal) => {
      const how = signal === null ? { exitCode } : { signal: signal === 'SIGKILL' ? 9 : 15 };
      update(launched, exitCode === 0 ? 'TASK_FINISHED' : 'TASK_FAILED', how);
    });
  }
}

function take(message) {
  switch (message.type) {
    case 'ExecutorRegistered':
      own = message.executorInfo.resources.memMib;
      return;
    case 'RunTask':
      return runTask(message);
    case 'RunTaskGroup':
      return message.tasks.forEach(runTask);
    case 'KillTask': {
      const launched = tasks.get(message.launchId);
      if (!launched || !isObedient) return;
      delete launched.memory;
      globalThis.gc?.();
      return update(launched, 'TASK_KILLED', { message: 'killed' });
    }
    case 'StatusUpdateAcknowledgement': {
      const said = updates.get(message.updateId);
      updates.delete(message.updateId);
      if (tasks.get(said?.launchId)?.hasEnded) tasks.delete(said.launchId);
      return;
    }
    case 'FrameworkToExecutor':
      return send({ type: 'ExecutorToFramework', data: `echo ${message.data}` });
    case 'ShutdownExecutor':
      if (isObedient) process.exit(0);
      return;
    default:
      return;
  }
}

function open() {
  socket = connect(KAON_EXECUTOR_SOCKET);
  let text = '';
  socket.on('connect', () => {
    const who = { token, frameworkId: KAON_FRAMEWORK_ID, executorId: KAON_EXECUTOR_ID };
    const memory = {
      tasks: [...tasks.values()].map(({ launchId, task }) => ({ launchId, task })),
      updates: [...updates.values()],
    };
    send(
      isBack
        ? { type: 'ReregisterExecutor', ...who, ...memory }
        : { type: 'RegisterExecutor', ...who },
    );
    isBack = true;
  });
  socket.on('data', (chunk) => {
    text += chunk;
    for (;;) {
      const end = text.indexOf('\n');
      if (end === -1) return;
      take(JSON.parse(text.slice(0, end)));
      text = text.slice(end + 1);
    }
  });
  socket.on('error', () => undefined);
  socket.on('close', () => setTimeout(open, 20));
}
// What tasks have left is given back to the kernel.
setInterval(() => globalThis.gc(), 500).unref();
open();
