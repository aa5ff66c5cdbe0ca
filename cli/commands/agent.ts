/** `kaon agent`: the agent of this node. */
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import type { AgentProcessOptions } from '../../agent/main.ts';
import { runAgentProcess } from '../../agent/main.ts';
import { userStateDirectory } from '../../agent/user-mode.ts';
import type { DaemonSettings } from '../../io/service.ts';
import { mapSettings } from '../../io/service.ts';
import type { AgentCommandOptions } from '../options.ts';

/** Of the agent of a node. */
const STATE_DIRECTORY = '/var/lib/kaon';

/** Runs until SIGTERM or SIGINT; tasks go on. @returns the exit code */
export async function agent(settings: DaemonSettings<AgentCommandOptions>): Promise<number> {
  await runAgentProcess(mapSettings(settings, processOptions));
  return 0;
}

function processOptions(options: AgentCommandOptions): AgentProcessOptions {
  const { redis, cluster, resources, numbers, reserve, attributes, agentId, bus, logLevel } =
    options;
  const { ofUser, stateDirectory, sandboxing, reserveFor } = options;
  return {
    redis,
    cluster,
    stateDir: resolve(stateDirectory ?? defaultStateDirectory(ofUser !== undefined)),
    resources,
    ...(numbers && { numbers }),
    reserve,
    attributes,
    reserveFor,
    sandboxing,
    logLevel,
    ...(agentId !== undefined && { agentId }),
    ...(bus !== undefined && { busAddress: bus }),
    ...(ofUser && { ofUser }),
  };
}

function defaultStateDirectory(isOfUser: boolean): string {
  return isOfUser ? userStateDirectory(process.env, homedir()) : STATE_DIRECTORY;
}
