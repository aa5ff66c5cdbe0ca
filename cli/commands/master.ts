/** `kaon master`: one master process, leading or standing by. */
import type { DaemonSettings } from '../../io/service.ts';
import { runMasterProcess } from '../../master/main.ts';
import type { ListenOptions } from '../listen-options.ts';
import type { MasterCommandOptions } from '../options.ts';

/** Runs until SIGTERM or SIGINT. @returns the exit code */
export async function master(
  settings: DaemonSettings<MasterCommandOptions & ListenOptions>,
): Promise<number> {
  await runMasterProcess(settings);
  return 0;
}
