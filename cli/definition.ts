/** What a command is, and the flags that several have. Nothing here may import what turns flags into numbers. */
import { Option } from 'commander';
import type { Daemon } from './daemon.ts';
import type { ConnectionOptions } from './options.ts';
import type { RawOptions } from './parse-options.ts';

/** Runs a command. @returns its exit code */
export type Action = (
  raw: RawOptions,
  connection: ConnectionOptions,
  args: string[],
) => Promise<number>;

/** One command. */
export interface Definition {
  /** Name and arguments as commander has them: `task <id>`. */
  readonly usage: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  readonly options: readonly Option[];
  readonly action: Action;
  /** Everything after the first argument belongs to what is run. */
  readonly passesThrough?: boolean;
  /** Commands under this one: `task resize`. Their names come before its arguments. */
  readonly commands?: readonly Definition[];
  /** Not in the list of commands: Kaon starts it, and nobody types it. */
  readonly isHidden?: boolean;
  /** Needs no cluster, and has no flags that say where it is. */
  readonly isLocal?: boolean;
  /** Its settings may stand in a file, and this runs it instead of `action`: see `daemon.ts`. */
  readonly daemon?: Daemon;
}

/** One flag of a command; `value` is its default. */
export function flag(flags: string, description: string, value?: string): Option {
  const option = new Option(flags, description);
  return value === undefined ? option : option.default(value, value);
}

/** A flag that may be given several times; its value is the list of them. */
export function repeated(flags: string, description: string): Option {
  const collect = (value: string, previous: string[] | undefined): string[] => [
    ...(previous ?? []),
    value,
  ];
  return new Option(flags, description).argParser(collect);
}

/** `--json`. */
export const json = (): Option => flag('--json', 'as JSON, with raw numbers, for programs');
/** `--log-level`. */
export const logLevel = (): Option =>
  flag('--log-level <level>', 'debug, info, warn or error', 'info');
/** `--config`, of a daemon. */
export const configFile = (): Option =>
  flag('--config <file>', 'settings, as TOML, by the names of these flags');
