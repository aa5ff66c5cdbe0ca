/** `kaon config check` and `kaon config show`: the settings that a daemon would start with, without starting it. */
import { existsSync } from 'node:fs';
import type { Setting } from '../../io/service.ts';
import type { Daemon, SettingsSource } from '../daemon.ts';
import { CONFIG_DIRECTORY } from '../daemon.ts';
import type { Definition } from '../definition.ts';
import { GROUPS } from '../definitions.ts';
import { EXIT_CONFIG, EXIT_OK, usageError } from '../failure.ts';
import type { RawOptions } from '../parse-options.ts';
import { text } from '../parse-options.ts';
import { printListing } from '../print.ts';
import { connectionOptions } from '../program.ts';

interface DaemonDefinition extends Definition {
  readonly daemon: Daemon;
}

/** @param asked name of a daemon; undefined: all that have a file @returns the exit code: 78 if something is wrong */
export async function checkConfig(raw: RawOptions, asked: string | undefined): Promise<number> {
  const given = text(raw, 'config');
  if (given !== undefined && asked === undefined) {
    throw usageError(
      `whose file is ${given}? kaon config check ${namesOf().join('|')} --config FILE`,
    );
  }
  const checked = (asked === undefined ? daemons() : [daemonOf(asked)]).flatMap((definition) => {
    const path = given ?? fileOf(definition);
    return path === undefined ? [] : [{ definition, path }];
  });
  if (checked.length === 0) {
    const whose = asked === undefined ? namesOf().join(', ') : asked;
    throw usageError(`no file in ${CONFIG_DIRECTORY} for ${whose}`, 'name one with --config FILE');
  }
  let exitCode = EXIT_OK;
  for (const { definition, path } of checked) {
    const { problems } = await definition.daemon.check(sourceFor(definition, path));
    for (const problem of problems) process.stderr.write(`${problem}\n`);
    if (problems.length === 0)
      process.stdout.write(`ok: ${path} (kaon ${definition.daemon.name})\n`);
    else exitCode = EXIT_CONFIG;
  }
  return exitCode;
}

/** @returns the exit code: 78 if something is wrong, which is told after the settings */
export async function showConfig(raw: RawOptions, asked: string): Promise<number> {
  const definition = daemonOf(asked);
  const path = text(raw, 'config') ?? fileOf(definition);
  const { list, problems } = await definition.daemon.check(sourceFor(definition, path));
  printListing<Setting>(
    {
      rows: list,
      columns: () => [
        { title: 'SETTING', text: ({ key }) => key },
        { title: 'VALUE', text: ({ value }) => value ?? '-', shrinksTo: 20 },
        { title: 'FROM', text: ({ source }) => source },
      ],
      json: (setting) => setting,
      none: 'no settings',
      unreadable: [],
    },
    { json: raw['json'] === true, wide: false },
  );
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  return problems.length === 0 ? EXIT_OK : EXIT_CONFIG;
}

function daemons(): DaemonDefinition[] {
  return GROUPS.flatMap(([, definitions]) =>
    definitions.flatMap((one) => (one.daemon ? [{ ...one, daemon: one.daemon }] : [])),
  );
}

function namesOf(): string[] {
  return daemons().map(({ daemon }) => daemon.name);
}

function daemonOf(asked: string): DaemonDefinition {
  const found = daemons().find(({ daemon }) => daemon.name === asked);
  if (found) return found;
  throw usageError(`${JSON.stringify(asked)} is no daemon: ${namesOf().join(', ')}`);
}

function fileOf({ daemon }: DaemonDefinition): string | undefined {
  return daemon.files.find((path) => existsSync(path));
}

/** As if the daemon were started with no flag but the file. */
function sourceFor({ options }: DaemonDefinition, path: string | undefined): SettingsSource {
  const flags = [...connectionOptions(), ...options];
  const { env: environment } = process;
  const variableOf = new Map(flags.map((flag) => [flag.attributeName(), flag.envVar ?? '']));
  const isInEnvironment = (name: string): boolean =>
    (environment[variableOf.get(name) ?? ''] ?? '') !== '';
  const values = flags.map((flag) => {
    const name = flag.attributeName();
    const value = isInEnvironment(name) ? environment[variableOf.get(name) ?? ''] : undefined;
    return [name, value ?? (flag.defaultValue as string | undefined)];
  });
  return {
    ...{ flags, environment },
    typed: { ...Object.fromEntries(values), config: path },
    sourceOf: (name) => (isInEnvironment(name) ? 'env' : 'default'),
  };
}
