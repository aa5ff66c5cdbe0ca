/** What each command is asked to do, checked and with units: what the commands' modules get. Types only. */
import type { SandboxSettings } from '../agent/sandboxing.ts';
import type { LogLevel } from '../io/log.ts';
import type { AgentId, MasterId } from '../protocol/ids.ts';
import type { NumberRanges } from '../protocol/numbers.ts';
import type { StaticReservation } from '../protocol/reservations.ts';
import type { Amounts, Resources } from '../protocol/resources.ts';
import type { WhenUnreachable } from '../protocol/command.ts';
import type { RunSandboxing } from './sandbox-options.ts';
import type { EventPosition } from '../protocol/event-position.ts';

/** Where the cluster is. */
export interface ConnectionOptions {
  /** Address of Redis. */
  readonly redis: string;
  /** Name of the cluster in it. */
  readonly cluster: string;
}

/** `kaon run`. */
export interface RunOptions extends ConnectionOptions {
  readonly cpuMillis: number;
  readonly memMib: number;
  /** Beside CPU and memory: disk, GPUs, ports. */
  readonly others?: Amounts;
  readonly name?: string;
  /** Absent: `*`. */
  readonly role?: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly workingDirectory?: string;
  /** Absent: the whole sandbox, and the whole network. */
  readonly sandboxing?: RunSandboxing;
  /** Wall-clock limit; absent: none. */
  readonly timeoutMs?: number;
  /** Between SIGTERM and SIGKILL; absent: the default of a task. */
  readonly killGraceMs?: number;
  readonly instances: number;
  /** No two of them on one node. */
  readonly distinctHosts: boolean;
  /** Absent: in turn. */
  readonly placement?: 'spread' | 'pack';
  /** All at once, or none. */
  readonly gang: boolean;
  /** Only agents that have all of these. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly detach: boolean;
  readonly whenUnreachable: WhenUnreachable;
  readonly exclusive: boolean;
  /** Absent: 0. */
  readonly priority?: number;
}

/** `kaon master`. */
export interface MasterCommandOptions extends ConnectionOptions {
  readonly leaseMs: number;
  readonly offerTimeoutMs: number;
  readonly agentTimeoutMs: number;
  readonly frameworkTimeoutMs: number;
  readonly minimumOffer: Resources;
  /** Ids of agents and patterns with `*`; undefined: all are offered. */
  readonly whitelist: readonly string[] | undefined;
  /** Undefined: nothing is ever preempted. */
  readonly preemptAfterMs: number | undefined;
  /** A name, or the path of a module. */
  readonly allocator: string;
  readonly allocatorTimeoutMs: number;
  readonly logLevel: LogLevel;
}

/** What an agent gives to tasks; absent numbers are detected or have the agent's defaults. */
export interface AgentResourceOptions {
  readonly resources: Partial<Resources>;
  /** Which units there are of what is numbered in `resources`. */
  readonly numbers?: NumberRanges;
  readonly reserve: Partial<Resources>;
  readonly attributes: Readonly<Record<string, string>>;
  /** What of it is kept for roles. */
  readonly reserveFor: readonly StaticReservation[];
}

/** `kaon agent`. */
export interface AgentCommandOptions extends ConnectionOptions, AgentResourceOptions {
  readonly sandboxing: SandboxSettings;
  /** Absent: `/var/lib/kaon`, or that of the user. */
  readonly stateDirectory?: string;
  /** Under the systemd of the user that starts it. */
  readonly ofUser?: {
    /** Also where limits of tasks cannot be held. */
    readonly isUnlimited: boolean;
  };
  /** Absent: the one in the state directory, or a new one. */
  readonly agentId?: AgentId;
  /** D-Bus address of systemd; absent: the system bus. */
  readonly bus?: string;
  readonly logLevel: LogLevel;
}

/** `kaon dev`. */
export interface DevCommandOptions extends AgentResourceOptions {
  /** Of its agent. */
  readonly sandboxing: SandboxSettings;
  readonly cluster: string;
  /** Only if the flag was given: an address in the environment may be that of an earlier `kaon dev`. */
  readonly redis?: string;
  /** Absent: a temporary one. */
  readonly stateDirectory?: string;
}

/** Commands that print a table. */
export interface ListOptions extends ConnectionOptions {
  readonly json: boolean;
  readonly wide: boolean;
}

/** `kaon tasks`. */
export interface TasksOptions extends ListOptions {
  readonly all: boolean;
  /** Ended tasks, newest first. */
  readonly limit: number;
}

/** `kaon executors`. */
export interface ExecutorsOptions extends ListOptions {
  /** Name, or the beginning of an id; absent: of all. */
  readonly framework?: string;
}

/** `kaon task resize`. */
export interface ResizeOptions extends ConnectionOptions {
  /** What is absent stays as it is; one of them is there. */
  readonly resources: Partial<Resources>;
  readonly framework?: string;
}

/** `kaon logs`. */
export interface LogsOptions extends ConnectionOptions {
  readonly follow: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Also to a terminal byte for byte. */
  readonly raw: boolean;
  /** Start so many bytes before the end; absent: from the beginning. */
  readonly lastBytes?: number;
}

/** `kaon kill`. */
export interface KillOptions extends ConnectionOptions {
  /** Overrides the task's own. */
  readonly graceMs?: number;
}

/** `kaon step-down`. */
export interface StepDownOptions extends ConnectionOptions {
  /** Absent: whoever leads. */
  readonly masterId?: MasterId;
}

/** `kaon events`. */
export interface EventsOptions extends ConnectionOptions {
  readonly json: boolean;
  readonly follow: boolean;
  /** Begin so long ago, or after this place in the log; absent: the newest `limit` events. */
  readonly since?: { readonly agoMs: number } | { readonly after: EventPosition };
  readonly limit: number;
  readonly task?: string;
}

/** `kaon gone`. */
export interface GoneOptions extends ConnectionOptions {
  /** Also an agent that is active. */
  readonly force: boolean;
}

/** A moment: so long ago, a time, or after an event. */
export type Moment =
  { readonly agoMs: number } | { readonly atMs: number } | { readonly after: EventPosition };

/** `kaon replay`. */
export interface ReplayOptions extends ListOptions {
  /** Absent: now. */
  readonly at?: Moment;
}
