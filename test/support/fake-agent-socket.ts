/**
 * The agent's side of an executor's socket, for tests: it listens, checks every line against the protocol, and says what a test
 * tells it to. By itself it answers registrations and acknowledges updates, unless a test does not want that.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isEnd } from '../../executor/core/states.ts';
import { ExecutorInfo } from '../../protocol/executor.ts';
import type {
  AgentToExecutor,
  ExecutorUpdate,
  LaunchedTask,
} from '../../protocol/executor-messages.ts';
import {
  AgentToExecutor as AgentSchema,
  ExecutorAgentInfo,
  ExecutorMessage,
} from '../../protocol/executor-messages.ts';
import { FrameworkInfo, TaskInfo } from '../../protocol/task.ts';
import { launchIdOf, taskIdOf } from './builders.ts';
import { createWatch, type Watch } from './watch.ts';

/** What an executor was heard to say, and on which connection; they are numbered from 1. */
export interface Heard {
  readonly connection: number;
  readonly message: ExecutorMessage;
}

/** What the agent does by itself. A test may change it at any time. */
export interface Habits {
  /** Answers registrations. */
  answers: boolean;
  acknowledges: boolean;
}

export interface FakeAgentSocket {
  /** Removed by `close`. */
  readonly directory: string;
  readonly socketPath: string;
  readonly tokenFile: string;
  /** What an agent puts into the environment of an executor. */
  readonly environment: Readonly<Record<string, string>>;
  readonly heard: Watch<Heard>;
  /** Every update, as often as it was said. */
  readonly updates: Watch<ExecutorUpdate>;
  readonly habits: Habits;
  /** Text of lines that no executor may say; a test expects none. */
  readonly faults: readonly string[];
  /** Number of the newest connection. */
  connection(): number;
  send(...messages: AgentToExecutor[]): void;
  /** Anything at all. */
  sendBytes(bytes: string | Buffer): void;
  acknowledge(update: ExecutorUpdate): void;
  /** Closes the connection; the executor may come back at once. */
  drop(): void;
  /** Closes the connection, and nobody listens until `comeBack`. */
  goAway(): Promise<void>;
  /** Does nothing if it is there. */
  comeBack(): Promise<void>;
  close(): Promise<void>;
}

export const EXECUTOR_INFO = ExecutorInfo.parse({
  executorId: 'e1',
  name: 'executor',
  resources: { cpuMillis: 100, memMib: 64 },
});
export const FRAMEWORK_INFO = FrameworkInfo.parse({ frameworkId: 'f1', name: 'shop' });
export const AGENT_INFO = ExecutorAgentInfo.parse({ agentId: 'a1', hostname: 'node-1' });

const TOKEN = 'secret-of-e1';

export async function startFakeAgent(): Promise<FakeAgentSocket> {
  const directory = await mkdtemp(join(tmpdir(), 'kaon-executor-'));
  const socketPath = join(directory, 'agent.sock');
  const tokenFile = join(directory, 'token');
  await writeFile(tokenFile, `${TOKEN}\n`);
  const work = join(directory, 'executor');
  mkdirSync(work);
  const heard = createWatch<Heard>();
  const updates = createWatch<ExecutorUpdate>();
  const habits: Habits = { answers: true, acknowledges: true };
  const faults: string[] = [];
  let connections = 0;
  let current: Socket | undefined;
  let server: Server | undefined;

  const say = (message: AgentToExecutor): void => {
    current?.write(`${JSON.stringify(message)}\n`);
  };
  const acknowledge = ({ taskId, launchId, updateId }: ExecutorUpdate): void => {
    say({ type: 'StatusUpdateAcknowledgement', taskId, launchId, updateId });
  };
  const takeUpdate = (update: ExecutorUpdate): void => {
    updates.push(update);
    if (habits.acknowledges) acknowledge(update);
  };
  const answer = (message: ExecutorMessage): void => {
    switch (message.type) {
      case 'RegisterExecutor':
        if (habits.answers) say(registered());
        break;
      case 'ReregisterExecutor':
        if (habits.answers) say({ type: 'ExecutorReregistered', agentInfo: AGENT_INFO });
        message.updates.forEach(takeUpdate);
        break;
      case 'StatusUpdate':
        takeUpdate(message.update);
        break;
      case 'ExecutorToFramework':
        break;
      default:
        message satisfies never;
    }
  };
  const take = (connection: number, line: string): void => {
    const parsed = ExecutorMessage.safeParse(JSON.parse(line));
    if (!parsed.success) {
      faults.push(`${parsed.error.message}: ${line.slice(0, 200)}`);
      return;
    }
    const isFirst = !heard.seen.some((one) => one.connection === connection);
    const isIntroduction = 'token' in parsed.data;
    if (isFirst !== isIntroduction) faults.push(`not expected then: ${line.slice(0, 200)}`);
    if ('token' in parsed.data && parsed.data.token !== TOKEN) faults.push('another token');
    heard.push({ connection, message: parsed.data });
    answer(parsed.data);
  };
  const accept = (socket: Socket): void => {
    connections += 1;
    const connection = connections;
    current = socket;
    let rest = '';
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) take(connection, line);
    });
    // An executor that is killed leaves its connection as it is.
    socket.on('error', () => undefined);
  };
  const listen = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server = createServer(accept).on('error', reject).listen(socketPath, resolve);
    });
  const stopListening = (): Promise<void> =>
    new Promise((resolve) => {
      current?.destroy();
      if (server)
        server.close(() => {
          resolve();
        });
      else resolve();
      server = undefined;
    });

  await listen();
  return {
    directory,
    socketPath,
    tokenFile,
    environment: {
      KAON_EXECUTOR_SOCKET: socketPath,
      KAON_EXECUTOR_TOKEN_FILE: tokenFile,
      KAON_FRAMEWORK_ID: 'f1',
      KAON_EXECUTOR_ID: 'e1',
      KAON_AGENT_ID: 'a1',
      KAON_SANDBOX: work,
    },
    heard,
    updates,
    habits,
    faults,
    connection: () => connections,
    send: (...messages) => {
      // What a test says is what an agent may say.
      for (const message of messages) say(AgentSchema.parse(message));
    },
    sendBytes: (bytes) => {
      current?.write(bytes);
    },
    acknowledge,
    drop: () => {
      current?.destroy();
    },
    goAway: stopListening,
    comeBack: async () => {
      if (!server) await listen();
    },
    close: async () => {
      await stopListening();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The answer to `RegisterExecutor`. */
export function registered(): AgentToExecutor {
  return {
    type: 'ExecutorRegistered',
    executorInfo: EXECUTOR_INFO,
    frameworkInfo: FRAMEWORK_INFO,
    agentInfo: AGENT_INFO,
  };
}

/** A task for a custom executor: no command, no sandbox. Its launch is `launch-of-ID`. */
export function launchedTask(
  taskId: string,
  more: Partial<TaskInfo> & { readonly launchId?: string } = {},
): LaunchedTask {
  const { launchId = `launch-of-${taskId}`, ...info } = more;
  const resources = { cpuMillis: 100, memMib: 32 };
  const task = TaskInfo.parse({ taskId, name: taskId, resources, ...info });
  return { launchId: launchIdOf(launchId), task };
}

/** A task for the default executor, with a sandbox below the directory. */
export function launchedCommand(
  directory: string,
  taskId: string,
  argv: readonly string[],
  more: Partial<Omit<TaskInfo, 'command'>> & {
    readonly command?: Partial<TaskInfo['command']>;
    readonly launchId?: string;
    readonly cgroupProcs?: string[];
  } = {},
): LaunchedTask {
  const { cgroupProcs, command, ...info } = more;
  const launched = launchedTask(taskId, {
    ...info,
    command: { argv: [...argv], environment: {}, ...command },
  });
  const sandbox = join(directory, launched.launchId);
  const [work, stdout, stderr] = ['work', 'stdout', 'stderr'].map((name) => join(sandbox, name));
  mkdirSync(work ?? '', { recursive: true });
  for (const path of [stdout, stderr]) closeSync(openSync(path ?? '', 'a'));
  return {
    ...launched,
    sandbox: { work: work ?? '', stdout: stdout ?? '', stderr: stderr ?? '' },
    ...(cgroupProcs && { cgroupProcs }),
  };
}

/** The message that hands it over. */
export function runTask(launched: LaunchedTask): AgentToExecutor {
  return { type: 'RunTask', ...launched };
}

/** The message that asks for its end. */
export function killTask({ task, launchId }: LaunchedTask, gracePeriodMs = 5000): AgentToExecutor {
  return { type: 'KillTask', taskId: taskIdOf(task.taskId), launchId, gracePeriodMs };
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Builds the executor library and the default executor into the directory, as `npm run build` does into dist/. */
export async function buildExecutors(directory: string): Promise<void> {
  const argv = [
    'scripts/build.mjs',
    '--out',
    directory,
    '--only',
    'executor/index,default-executor',
  ];
  await promisify(execFile)(process.execPath, argv, { cwd: ROOT });
}

export interface ExecutorProcess {
  readonly pid: number;
  /** What it has said on standard error so far. */
  said(): string;
  signal(signal: NodeJS.Signals): void;
  /** Resolves when it has ended. */
  readonly exit: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  /** SIGKILL, if it has not ended. */
  end(): Promise<void>;
}

/** Starts an executor as an agent would: with nothing but its variables and PATH in the environment. */
export function startExecutor(
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
): ExecutorProcess {
  const [file = '', ...args] = argv;
  const env = { PATH: process.env['PATH'] ?? '', ...environment };
  const child = spawn(file, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const exit = new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve({ code, signal });
    });
  });
  return {
    pid: child.pid ?? 0,
    said: () => said,
    signal: (signal) => void child.kill(signal),
    exit,
    end: async () => {
      child.kill('SIGKILL');
      await exit;
    },
  };
}

/** The states that were reported of a task, in order, each said once. */
export function statesOf(agent: FakeAgentSocket, taskId: string): string[] {
  const seen = new Map<string, string>();
  for (const update of agent.updates.seen) {
    if (update.taskId === taskId) seen.set(update.updateId, update.state);
  }
  return [...seen.values()];
}

/** The update that a task ends with. */
export function endOf(agent: FakeAgentSocket, taskId: string): Promise<ExecutorUpdate> {
  return agent.updates.first((update) => update.taskId === taskId && isEnd(update.state));
}

/** The first update that says that it runs. */
export function runningOf(agent: FakeAgentSocket, taskId: string): Promise<ExecutorUpdate> {
  return agent.updates.first(
    (update) => update.taskId === taskId && update.state === 'TASK_RUNNING',
  );
}
