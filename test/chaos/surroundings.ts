/** What every process of a campaign is started with. */
import type { Chronicle } from './chronicle.ts';
import type { ChaosRedis } from './redis-pair.ts';

export interface Surroundings {
  /** Of this campaign alone; everything is below it. */
  readonly directory: string;
  /** Command line of the built `kaon`, program first. */
  readonly kaon: readonly string[];
  /** Of all daemons: the shim that steps their clock. */
  readonly environment: Readonly<Record<string, string>>;
  readonly redis: ChaosRedis;
  readonly chronicle: Chronicle;
}
