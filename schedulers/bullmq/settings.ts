/** What a queue and its scheduler are told: everything that `kaon bullmq` can be asked for, checked and in Kaon's units. */
import type { RateLimiterOptions } from 'bullmq';
import type { PartialResources } from '../../protocol/roles.ts';
import type { JobDefaults } from './job-spec.ts';

/** The program that runs the jobs of a queue whose data is their own. */
export interface ProcessorSettings {
  /** Tells it from every other version of it; part of the executor's id. */
  readonly version: string;
  /** A file that the nodes have, or the code itself, which its executors ask for. */
  readonly source: { readonly path: string } | { readonly code: string };
  /** Idle processes that an executor keeps. */
  readonly warm: number;
}

/** One queue. */
export interface QueueSettings {
  readonly name: string;
  readonly defaults: JobDefaults;
  /** Against the other queues of this scheduler. */
  readonly weight: number;
  /** Held by its jobs at most, of what it names; undefined: whatever there is. */
  readonly quota: PartialResources | undefined;
  /** Active jobs at most, by this scheduler. */
  readonly concurrency: number;
  readonly groupLimit: number | undefined;
  readonly limiter: RateLimiterOptions | undefined;
  readonly processor: ProcessorSettings | undefined;
}

/** One scheduler, which is one framework. */
export interface SchedulerSettings {
  /** Tells this scheduler from others; part of the framework's id. */
  readonly name: string;
  readonly role: string;
  /** Of BullMQ's keys. */
  readonly prefix: string;
  readonly queues: readonly QueueSettings[];
  /** How long a lock lasts that nobody extends, milliseconds. */
  readonly lockMs: number;
  /** A job that no agent could hold fails after so long, milliseconds. */
  readonly placementTimeoutMs: number;
  /** How long a job may be overtaken by smaller ones, milliseconds. */
  readonly patienceMs: number;
  /** So many losses of its node in a row are enough for a job. */
  readonly lostMax: number;
}

/** Defaults of what has one: `kaon bullmq --help` tells them. */
export const SETTINGS_DEFAULT = {
  name: 'bullmq',
  role: '*',
  prefix: 'bull',
  lockMs: 600_000,
  placementTimeoutMs: 60_000,
  patienceMs: 30_000,
  lostMax: 3,
  weight: 1,
  concurrency: 1000,
  warm: 2,
  resources: { cpuMillis: 1000, memMib: 256 },
} as const;
