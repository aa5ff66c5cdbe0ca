/** `kaon agent`: the agent of this node. */
import { resolve } from 'node:path';
import { runAgentProcess } from '../../agent/main.ts';
import type { AgentCommandOptions } from '../options.ts';

/** Runs until SIGTERM or SIGINT; tasks go on. @returns the exit code */
export async function agent(options: AgentCommandOptions): Promise<number> {
  const { redis, cluster, resources, reserve, attributes, agentId, bus, logLevel } = options;
  await runAgentProcess({
    redis,
    cluster,
    stateDir: resolve(options.stateDirectory),
    resources,
    reserve,
    attributes,
    logLevel,
    ...(agentId !== undefined && { agentId }),
    ...(bus !== undefined && { busAddress: bus }),
  });
  return 0;
}
