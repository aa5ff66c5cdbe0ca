/** `kaon deactivate AGENT` and `kaon reactivate AGENT`: whether anything of a node is offered. */
import { agentTitle, findAgent, tasksOn } from '../agent-target.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ConnectionOptions } from '../options.ts';
import { request } from '../request.ts';

const REFUSAL = 'agent.deactivation-refused';

/** @returns the exit code @throws as `request`, `findAgent` */
export async function deactivate(options: ConnectionOptions, asked: string): Promise<number> {
  await withStore(options, { name: 'deactivate' }, async (store) => {
    const { agent, cluster } = await findAgent(store, asked);
    const { agentId } = agent.info;
    await request(store, {
      message: (requestId) => ({ type: 'DeactivateAgent', requestId, agentId }),
      what: `deactivate ${agentId}`,
      refusal: REFUSAL,
    });
    process.stdout.write(
      `${agentTitle(agent)} is not offered any more; ${tasksOn(cluster, agent)}\n`,
    );
  });
  return EXIT_OK;
}

/** @returns the exit code @throws as `request`, `findAgent` */
export async function reactivate(options: ConnectionOptions, asked: string): Promise<number> {
  await withStore(options, { name: 'reactivate' }, async (store) => {
    const { agent } = await findAgent(store, asked);
    const { agentId } = agent.info;
    await request(store, {
      message: (requestId) => ({ type: 'ReactivateAgent', requestId, agentId }),
      what: `reactivate ${agentId}`,
      refusal: REFUSAL,
    });
    process.stdout.write(`${agentTitle(agent)} may be offered again\n`);
  });
  return EXIT_OK;
}
