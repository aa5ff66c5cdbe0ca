/**
 * Seams at which a deliberately broken variant is put in, to see that the checkers notice. Nothing of production knows
 * of them: each wraps a function where the simulator hands it over.
 */
import type { AgentState, Registration } from '../../agent/core/state.ts';
import type { AgentEffect, AgentEvent } from '../../agent/core/events.ts';
import { step as agentStep } from '../../agent/core/step.ts';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterState } from '../../master/core/state.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import { step as masterStep } from '../../master/core/step.ts';
import type { SimRedis } from './redis.ts';

export type MasterStep = (state: MasterState, event: MasterEvent, nowMs: number) => MasterEffect[];
export type AgentStep = (state: AgentState, event: AgentEvent, nowMs: number) => AgentEffect[];

export interface MasterSeams {
  readonly step: MasterStep;
  /** Whether a term that begins on another Redis tells the core so. */
  readonly noticesDataLoss: boolean;
}

export interface AgentSeams {
  readonly step: AgentStep;
  readonly registration: (registration: Registration) => Registration;
  /** Whether an answer to a heartbeat sets the fences again. */
  readonly isContact: (isOk: boolean, tookMs: number, answerMaxMs: number) => boolean;
  readonly setsFences: boolean;
  readonly remembersEnds: boolean;
  /** Whether what a turn writes into journals is on the disk before anything leaves the process. */
  readonly writesJournalFirst: boolean;
}

/** What a run is made of; the production parts unless a mutation has replaced one. */
export interface Seams {
  readonly master: MasterSeams;
  readonly agent: AgentSeams;
  /** Puts something between the daemons and the model of Redis. */
  readonly redis: (inner: SimRedis) => SimRedis;
}

export const PRODUCTION: Seams = {
  master: { step: masterStep, noticesDataLoss: true },
  agent: {
    step: agentStep,
    registration: (registration) => registration,
    isContact: (isOk, tookMs, answerMaxMs) => isOk && tookMs <= answerMaxMs,
    setsFences: true,
    remembersEnds: true,
    writesJournalFirst: true,
  },
  redis: (inner) => inner,
};
