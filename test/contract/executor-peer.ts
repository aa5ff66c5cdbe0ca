/** The other side of the agent's socket: an executor of the test's own, line by line. */
import { connect, type Socket } from 'node:net';
import type { AgentToExecutor, ExecutorUpdate } from '../../protocol/executor-messages.ts';
import { launchIdOf, taskIdOf } from '../support/builders.ts';
import { createWatch, type Watch } from '../support/watch.ts';

/** One connection. */
export class ExecutorPeer {
  readonly socket: Socket;
  /** What it is told. */
  readonly lines: Watch<AgentToExecutor> = createWatch();
  readonly closed: Promise<void>;
  #rest = '';

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.setEncoding('utf8');
    this.socket.on('data', (text: string) => {
      const parts = `${this.#rest}${text}`.split('\n');
      this.#rest = parts.pop() ?? '';
      for (const part of parts) this.lines.push(JSON.parse(part) as AgentToExecutor);
    });
    this.socket.on('error', () => undefined); // A connection that is cut off is what some tests are about.
    this.closed = new Promise((resolve) => {
      this.socket.once('close', () => {
        resolve();
      });
    });
  }

  say(...messages: readonly object[]): void {
    this.socket.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(''));
  }

  /** The first message of that type for which `holds`. */
  async told<T extends AgentToExecutor['type']>(
    type: T,
    holds: (message: Extract<AgentToExecutor, { type: T }>) => boolean = () => true,
  ): Promise<Extract<AgentToExecutor, { type: T }>> {
    type Told = Extract<AgentToExecutor, { type: T }>;
    return (await this.lines.first(
      (message) => message.type === type && holds(message as Told),
    )) as Told;
  }

  /** What it is told before it is cut off. */
  async refusal(): Promise<AgentToExecutor | undefined> {
    await this.closed;
    return this.lines.seen.at(-1);
  }

  /** Ends the connection from this side. */
  async leave(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }
}

/** `updateOf('k1', 'TASK_RUNNING')`: of task `t1`, with an id that is made of both. */
export function updateOf(
  launchId: string,
  state: ExecutorUpdate['state'],
  more: Partial<ExecutorUpdate> = {},
): ExecutorUpdate {
  return {
    taskId: taskIdOf('t1'),
    launchId: launchIdOf(launchId),
    updateId: `${launchId}-${state}`,
    state,
    ...more,
  };
}
