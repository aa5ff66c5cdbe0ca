/** An agent as the master sees it: a mailbox, and what a test makes it say. */
import { systemClock } from '../../io/clock.ts';
import { silentLog } from '../../io/log.ts';
import { Mailbox } from '../../io/mailbox.ts';
import type { Store } from '../../io/store.ts';
import type { AgentExecutor } from '../../protocol/executor.ts';
import type { AgentId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { Message, MessageOf, MessageType } from '../../protocol/messages.ts';
import type {
  AgentFramework,
  AgentInfo,
  AgentTask,
  EndedLaunch,
  LeaderInfo,
} from '../../protocol/task.ts';
import { agentInfo, taskStatus } from './builders.ts';
import { createWatch } from './watch.ts';

export interface ScriptedAgent {
  readonly agentId: AgentId;
  readonly mailbox: Mailbox;
  /** The first message of that type, come or to come, for which `isIt` holds. */
  received<T extends MessageType>(
    type: T,
    isIt?: (message: MessageOf<T>) => boolean,
  ): Promise<MessageOf<T>>;
  /** How many messages of that type have come. */
  countOf(type: MessageType): number;
  /** Sends an update of a task, named `TASK.STATE`. */
  say(frameworkId: string, taskId: string, state: AgentTask['state']): void;
  stop(): Promise<void>;
}

/** What the agent says of itself when it registers; nothing by default. */
export interface ScriptedAgentOptions {
  readonly info?: Partial<AgentInfo>;
  /** Which installation; default that of the agent's id. */
  readonly node?: string;
  readonly tasks?: AgentTask[];
  readonly frameworks?: AgentFramework[];
  readonly executors?: AgentExecutor[];
  readonly ended?: EndedLaunch[];
  readonly leaderSeen?: LeaderInfo;
}

export function startScriptedAgent(
  store: Store,
  id: string,
  options: ScriptedAgentOptions = {},
): ScriptedAgent {
  const info = agentInfo(id, options.info);
  const { node = `node-of-${id}`, tasks = [], frameworks = [], ended = [] } = options;
  const { executors = [], leaderSeen } = options;
  const messages = createWatch<Message>();
  const mailbox = new Mailbox({
    store,
    clock: systemClock,
    log: silentLog,
    client: agentName(info.agentId),
    register: (session) => [
      {
        type: 'RegisterAgent',
        agent: info,
        session,
        node,
        tasks,
        frameworks,
        executors,
        ended,
        ...(leaderSeen && { leaderSeen }),
      },
    ],
    onMessages: (some) => {
      for (const message of some) messages.push(message);
    },
    onMoved: () => undefined,
  });
  mailbox.start();
  return {
    agentId: info.agentId,
    mailbox,
    received: async <T extends MessageType>(
      type: T,
      isIt: (message: MessageOf<T>) => boolean = () => true,
    ) => {
      const found = await messages.first(
        (message) => message.type === type && isIt(message as MessageOf<T>),
      );
      return found as MessageOf<T>;
    },
    countOf: (type) => messages.seen.filter((message) => message.type === type).length,
    say: (frameworkId, taskId, state) => {
      const launch = messages.seen.find(
        (message) => message.type === 'RunTask' && message.task.taskId === taskId,
      );
      const status = taskStatus(frameworkId, taskId, state, {
        agentId: info.agentId,
        ...(launch?.type === 'RunTask' && { launchId: launch.launchId }),
      });
      mailbox.send({ type: 'StatusUpdate', status });
    },
    stop: async () => {
      mailbox.stop();
      await store.close();
      await mailbox.stopped();
    },
  };
}
