/** What recovery works with. */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { Systemd } from '../systemd/port.ts';
import type { Adopter } from './adopt.ts';
import type { Checkpoints } from './checkpoint.ts';
import type { AgentState } from './core/state.ts';
import type { ExecutorJournals } from './executor-journal.ts';
import type { TaskRunner } from './task-runner.ts';
import type { OwnUser } from './user-mode.ts';

/** The empty state to fill, and what is known of before. */
export interface RecoveryOptions {
  readonly state: AgentState;
  readonly systemd: Systemd;
  readonly checkpoints: Checkpoints;
  readonly journals: ExecutorJournals;
  readonly runner: TaskRunner;
  readonly adopter: Adopter;
  readonly clock: Clock;
  readonly log: Log;
  readonly bootId: string;
  /** Absent: of the agent of the node. */
  readonly ofUser?: OwnUser;
}
