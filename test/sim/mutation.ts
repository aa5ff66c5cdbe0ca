/**
 * Seams at which a deliberately broken variant is put in, to see that the checkers notice. Nothing of production knows
 * of them: each wraps a function where the simulator hands it over.
 */
import type { AgentEffect, AgentEvent } from '../../agent/core/step.ts';
import { step as agentStep } from '../../agent/core/step.ts';
import type { AgentState } from '../../agent/core/state.ts';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterState } from '../../master/core/state.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import { step as masterStep } from '../../master/core/step.ts';
import type { SimRedis } from './redis.ts';

export type MasterStep = (state: MasterState, event: MasterEvent, nowMs: number) => MasterEffect[];
export type AgentStep = (state: AgentState, event: AgentEvent, nowMs: number) => AgentEffect[];

/** What a run is made of; the production parts unless a mutation has replaced one. */
export interface Seams {
  readonly masterStep: MasterStep;
  readonly agentStep: AgentStep;
  /** Puts something between the daemons and the model of Redis. */
  readonly redis: (inner: SimRedis) => SimRedis;
}

export const PRODUCTION: Seams = { masterStep, agentStep, redis: (inner) => inner };
