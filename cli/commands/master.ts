/** `kaon master`: one master process, leading or standing by. */
import { runMasterProcess } from '../../master/main.ts';
import type { MasterCommandOptions } from '../options.ts';

/** Runs until SIGTERM or SIGINT. @returns the exit code */
export async function master(options: MasterCommandOptions): Promise<number> {
  await runMasterProcess(options);
  return 0;
}
