/** `kaon drain AGENT` and `kaon undrain AGENT`: a node is emptied, for maintenance, and comes back. */
import { agentTitle, findAgent, tasksOn } from '../agent-target.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ConnectionOptions } from '../options.ts';
import { request } from '../request.ts';

/** `kaon drain`. */
export interface DrainOptions extends ConnectionOptions {
  readonly inMs: number;
  /** After the beginning of the drain; absent: tasks go on to their own ends. */
  readonly deadlineMs?: number;
}

/** @returns the exit code @throws as `request`, `findAgent` */
export async function drain(options: DrainOptions, asked: string): Promise<number> {
  const { inMs, deadlineMs } = options;
  await withStore(options, { name: 'drain' }, async (store) => {
    const { agent, cluster } = await findAgent(store, asked);
    const { agentId } = agent.info;
    const { message = '' } = await request(store, {
      message: (requestId) => ({
        type: 'DrainAgent',
        ...{ requestId, agentId, inMs },
        ...(deadlineMs !== undefined && { deadlineMs }),
      }),
      what: `drain ${agentId}`,
      refusal: 'agent.drain-refused',
    });
    process.stdout.write(`${agentTitle(agent)} is ${message}; ${tasksOn(cluster, agent)}\n`);
  });
  return EXIT_OK;
}

/** @returns the exit code @throws as `request`, `findAgent` */
export async function undrain(options: ConnectionOptions, asked: string): Promise<number> {
  await withStore(options, { name: 'undrain' }, async (store) => {
    const { agent } = await findAgent(store, asked);
    const { agentId } = agent.info;
    await request(store, {
      message: (requestId) => ({ type: 'UndrainAgent', requestId, agentId }),
      what: `undrain ${agentId}`,
      refusal: 'agent.drain-refused',
    });
    process.stdout.write(`${agentTitle(agent)} may be offered again\n`);
  });
  return EXIT_OK;
}
