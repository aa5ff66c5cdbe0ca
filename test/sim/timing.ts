/** The times that the simulated daemons go by, milliseconds. */

export interface Timing {
  readonly heartbeatMs: number;
  readonly agentTimeoutMs: number;
  readonly frameworkTimeoutMs: number;
  readonly offerTimeoutMs: number;
  readonly leaseMs: number;
  readonly masterTickMs: number;
  readonly agentTickMs: number;
  /** How often an agent lists its units. */
  readonly relistMs: number;
  /** Mean time between two acts of a framework. */
  readonly actEveryMs: number;
  /** How long an executor may take to register, and how long one without tasks is kept. */
  readonly executorRegistrationMs: number;
  readonly executorIdleMs: number;
  /** Mean and longest time that a task runs by itself. */
  readonly taskMs: number;
  readonly taskMaxMs: number;
}

/** Short, so that a minute holds many of everything; in proportion to each other about as in production. */
export const SHORT: Timing = {
  heartbeatMs: 1000,
  agentTimeoutMs: 8000,
  frameworkTimeoutMs: 5000,
  offerTimeoutMs: 4000,
  leaseMs: 3000,
  masterTickMs: 250,
  agentTickMs: 200,
  relistMs: 5000,
  actEveryMs: 400,
  executorRegistrationMs: 4000,
  executorIdleMs: 3000,
  taskMs: 3000,
  taskMaxMs: 15_000,
};

/** The defaults of production, and tasks of minutes. */
export const REAL: Timing = {
  heartbeatMs: 5000,
  agentTimeoutMs: 75_000,
  frameworkTimeoutMs: 30_000,
  offerTimeoutMs: 30_000,
  leaseMs: 3000,
  masterTickMs: 250,
  agentTickMs: 200,
  relistMs: 30_000,
  actEveryMs: 20_000,
  executorRegistrationMs: 60_000,
  executorIdleMs: 60_000,
  taskMs: 240_000,
  taskMaxMs: 1_800_000,
};
