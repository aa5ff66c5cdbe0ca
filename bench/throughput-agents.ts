/** The agents of the throughput benchmark: a process full of them, whose tasks are timers. */
import type { AgentId } from '../protocol/ids.ts';
import { agentName } from '../protocol/keys.ts';
import type { MessageOf } from '../protocol/messages.ts';
import type { TaskStatus } from '../protocol/task.ts';
import { LeanClient, LeanHub } from './lean-client.ts';
import type { AgentsPart } from './throughput.ts';

/** Registers the agents; from then on they answer. */
export async function runAgents(part: AgentsPart): Promise<void> {
  const hub = await LeanHub.open(part.socketPath, part.cluster);
  await Promise.all(
    Array.from({ length: part.count }, (_, index) => startAgent(hub, `a${index + 1}`, part)),
  );
}

async function startAgent(hub: LeanHub, name: string, part: AgentsPart): Promise<void> {
  const agentId = name as AgentId;
  const client: LeanClient = new LeanClient(hub, agentName(agentId), (message) => {
    if (message.type === 'RunTask') runTask(client, agentId, message, part.runMs);
  });
  const agent = { agentId, hostname: name, resources: part.resources, attributes: {} };
  const none = { tasks: [], frameworks: [], executors: [], ended: [] };
  await client.start((session) => ({ type: 'RegisterAgent', agent, session, node: name, ...none }));
}

/** Two updates a task, with what a real one carries. */
export function runTask(
  client: LeanClient,
  agentId: AgentId,
  { framework: { frameworkId }, launchId, task: { taskId } }: MessageOf<'RunTask'>,
  runMs: number,
): void {
  const unit = `kaon-0123abcd-${taskId}-${launchId}.service`;
  const update = (state: TaskStatus['state'], more: Partial<TaskStatus> = {}): void => {
    const updateId = `${launchId}.${state}` as NonNullable<TaskStatus['updateId']>;
    const source = 'SOURCE_AGENT';
    const status = {
      frameworkId,
      taskId,
      agentId,
      launchId,
      updateId,
      state,
      source,
      unit,
      ...more,
    } as const;
    client.send({ type: 'StatusUpdate', status });
  };
  const startedAtMs = Date.now();
  update('TASK_RUNNING');
  setTimeout(() => {
    update('TASK_FINISHED', {
      message: 'exited with code 0',
      certificate: {
        exitCode: 0,
        oomKills: 0,
        memoryPeakBytes: 1_234_944,
        memoryLimitBytes: 67_108_864,
        cpuUsec: 1234,
        throttledUsec: 0,
        startedAtMs,
        endedAtMs: Date.now(),
        stdoutBytes: 0,
        stderrBytes: 0,
      },
    });
  }, runMs);
}
