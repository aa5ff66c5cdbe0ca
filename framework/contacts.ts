/**
 * Which agents a scheduler may speak to itself (rule C2): those that it has had an offer of, or has something running on.
 * A message to one of its executors there goes straight into the agent's stream; to any other agent the master takes it.
 *
 * Best effort: what cannot be written is dropped and logged, and never an error of the call.
 */
import type { Log } from '../io/log.ts';
import { retryLevel } from '../io/redis-errors.ts';
import type { Store } from '../io/store.ts';
import { messageOf } from '../protocol/errors.ts';
import type { AgentId } from '../protocol/ids.ts';
import type { Message, MessageOf } from '../protocol/messages.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { TaskStatus } from '../protocol/task.ts';

/** Messages that wait for Redis at a time: it may be away for long, and nobody needs them all when it is back. */
const WAITING_MAX = 1000;

/** The agents that are known, and the messages on their way to them. */
export class Contacts {
  readonly #log: Log;
  readonly #agents = new Set<AgentId>();
  #waiting = 0;
  #isDropping = false;

  constructor(log: Log) {
    this.#log = log;
  }

  knows(agentId: AgentId): boolean {
    return this.#agents.has(agentId);
  }

  /** Takes from what the framework has been told where it has been, and where it is not any more. */
  learn(message: Message): void {
    switch (message.type) {
      case 'ResourceOffers':
        for (const { agentId } of message.offers) this.#agents.add(agentId);
        return;
      case 'StatusUpdate':
        this.#learnFrom(message.status);
        return;
      case 'ExecutorToFramework':
        this.#agents.add(message.agentId);
        return;
      case 'LostAgent':
        this.#agents.delete(message.agentId);
        return;
      default:
    }
  }

  #learnFrom({ agentId, state }: TaskStatus): void {
    if (agentId === undefined) return;
    if (AGENT_AWAY.has(state)) this.#agents.delete(agentId);
    else if (!isTerminal(state) && state !== 'TASK_UNKNOWN') this.#agents.add(agentId);
  }

  /** To an agent that is known. Messages of one scheduler to one agent arrive in order, or not at all. */
  send(store: Store, message: MessageOf<'FrameworkToExecutor'>): void {
    const { agentId, executorId } = message;
    if (this.#waiting >= WAITING_MAX) {
      if (!this.#isDropping) {
        const reason = `${String(WAITING_MAX)} messages wait for Redis`;
        this.#log.warn('framework-message.dropping', { agentId, executorId, reason });
      }
      this.#isDropping = true;
      return;
    }
    this.#waiting += 1;
    void store
      .requestAgent(agentId, JSON.stringify([message]))
      .catch((error: unknown) => {
        const level = retryLevel(error);
        this.#log[level]('framework-message.dropped', {
          agentId,
          executorId,
          error: messageOf(error),
        });
      })
      .finally(() => {
        this.#waiting -= 1;
        this.#isDropping &&= this.#waiting > 0;
      });
  }
}

/** States that say that the agent does not hear, or will not come back. */
const AGENT_AWAY: ReadonlySet<TaskStatus['state']> = new Set([
  'TASK_UNREACHABLE',
  'TASK_GONE',
  'TASK_GONE_BY_OPERATOR',
] as const);
