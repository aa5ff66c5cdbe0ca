/** Commands that are daemons: what is a flag of theirs is a setting of their file, too. Light: it is read for `--help`. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Option } from 'commander';
import type { DaemonSettings, Setting } from '../io/service.ts';
import type { Definition } from './definition.ts';
import type { ConnectionOptions } from './options.ts';
import type { RawOptions } from './parse-options.ts';

/** What was given to a daemon, before it is checked. */
export interface Given {
  /** Flags, and what the file has instead of them. */
  readonly raw: RawOptions;
  readonly connection: ConnectionOptions;
  /** What has a form of its own in the file. */
  readonly structured: Readonly<Record<string, unknown>>;
}

/** Where the settings of one start come from. */
export interface SettingsSource {
  /** All flags of the command, with those of the cluster. */
  readonly flags: readonly Option[];
  /** Values by the names that commander gives to flags, with their defaults. */
  readonly typed: RawOptions;
  /** Where commander has a value from: `cli`, `env`, `default`, or nowhere. */
  readonly sourceOf: (name: string) => string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** What `kaon config` does with a daemon's settings. */
export interface CheckedSettings {
  readonly problems: readonly string[];
  readonly list: readonly Setting[];
}

/** The part of a definition that makes it a daemon. */
export interface Daemon {
  readonly name: string;
  /** Where its file is, if nobody says otherwise: the first of them that exists. */
  readonly files: readonly string[];
  readonly run: (source: SettingsSource) => Promise<number>;
  readonly check: (source: SettingsSource) => Promise<CheckedSettings>;
}

/** A daemon with the type of its options. */
export interface DaemonSpec<T> extends Omit<Definition, 'action' | 'daemon'> {
  /** Keys of the file that have a form of their own. Default: none. */
  readonly structured?: readonly string[];
  /** A file that is read if it is there, where none is named. Default: none. */
  readonly ownFile?: (source: SettingsSource) => string | undefined;
  /** Loads what checks the settings. */
  readonly loadParser: () => Promise<(given: Given) => T>;
  /** Runs it to its end. @returns the exit code */
  readonly start: (settings: DaemonSettings<T>) => Promise<number>;
}

/** Where the settings of Kaon's daemons are. */
export const CONFIG_DIRECTORY = '/etc/kaon';

/**
 * Where a daemon of a user has its settings: in `$XDG_CONFIG_HOME/kaon`, by default `~/.config/kaon`.
 *
 * @returns undefined if not even a home directory is known
 */
export function userFile(
  environment: Readonly<Record<string, string | undefined>>,
  name: string,
): string | undefined {
  const { XDG_CONFIG_HOME: config = '', HOME: home = '' } = environment;
  if (config.startsWith('/')) return join(config, 'kaon', name);
  return home === '' ? undefined : join(home, '.config', 'kaon', name);
}

/** @returns the definition of a command whose settings may stand in a file */
export function daemon<T>(spec: DaemonSpec<T>): Definition {
  const { structured = [], ownFile, loadParser, start, ...definition } = spec;
  const [name = ''] = definition.usage.split(' ');
  return {
    ...definition,
    action: () => Promise.reject(new Error(`kaon ${name} is started with its settings`)),
    daemon: {
      name,
      files: [`${CONFIG_DIRECTORY}/${name}.toml`, `${CONFIG_DIRECTORY}/${name}.json`],
      run: async (given) => {
        const { settingsOf } = await import('./daemon-settings.ts');
        const source = withOwnFile(given, ownFile?.(given));
        return start(settingsOf({ source, structured, parse: await loadParser() }));
      },
      check: async (source) => {
        const { checkSettings } = await import('./daemon-settings.ts');
        return checkSettings({ source, structured, parse: await loadParser() });
      },
    },
  };
}

function withOwnFile(source: SettingsSource, path: string | undefined): SettingsSource {
  const { typed } = source;
  if (path === undefined || typed['config'] !== undefined || !existsSync(path)) return source;
  return { ...source, typed: { ...typed, config: path } };
}
