/**
 * The settings of a daemon: a flag, else a variable of the environment, else the file, else the default. Wherever a value
 * comes from, the parser of the flags reads it; an error about it names the place where it has to be changed.
 */
import { existsSync } from 'node:fs';
import { Option } from 'commander';
import type { ConfigFile, SettingKind, SettingSpec, TypedValue } from '../io/config.ts';
import { describeProblem, readConfigFile } from '../io/config.ts';
import { hidePassword, parseRedisUrl } from '../io/redis-url.ts';
import type { DaemonSettings, Setting } from '../io/service.ts';
import { codeOf, KaonError, messageOf } from '../protocol/errors.ts';
import type { CheckedSettings, Given, SettingsSource } from './daemon.ts';
import type { ConnectionOptions } from './options.ts';
import type { RawOptions } from './parse-options.ts';
import { parseConnection } from './parse-options.ts';

/** Variables of flags that commander does not know as such. */
const VARIABLES: Readonly<Record<string, string>> = {
  redis: 'KAON_REDIS',
  cluster: 'KAON_CLUSTER',
  'redis-ca': 'KAON_REDIS_CA',
  'redis-cert': 'KAON_REDIS_CERT',
  'redis-key': 'KAON_REDIS_KEY',
};
/** Flags that are no settings. */
const NOT_SETTINGS = new Set(['config', 'help']);
/** Values of these are shown to nobody. */
const SECRETS = /(^|-)(token|password|secret)$/;

/** How a daemon reads its settings. */
export interface SettingsReading<T> {
  readonly source: SettingsSource;
  readonly structured: readonly string[];
  readonly parse: (given: Given) => T;
}

/** A value, and where it comes from. */
interface Found {
  readonly flag: Option;
  readonly key: string;
  readonly value: TypedValue | undefined;
  readonly source: string;
  readonly isFromFile: boolean;
}

/** @throws KaonError `config-invalid` with every problem of the file, or `usage` if it is a flag that is wrong */
export function settingsOf<T>(reading: SettingsReading<T>): DaemonSettings<T> {
  const { file, found, result } = read(reading);
  if (!result.ok) throw result.error;
  return {
    options: result.options,
    list: listOf(reading.source, found),
    ...(file && { reread: () => settingsOf(reading) }),
  };
}

/** Tells what is wrong instead of throwing it. */
export function checkSettings<T>(reading: SettingsReading<T>): CheckedSettings {
  const { found, result } = read(reading);
  return { problems: result.ok ? [] : result.problems, list: listOf(reading.source, found) };
}

/** The file that is read: for `FILE.toml` that does not exist, `FILE.json` if that does. */
export function configPath(given: string): string {
  const json = given.replace(/\.toml$/, '.json');
  return json !== given && !existsSync(given) && existsSync(json) ? json : given;
}

/**
 * Where the cluster is, for a command that runs beside a daemon: what it was given, else what the daemon's file says. What
 * is wrong with the file is the daemon's to tell.
 */
export function connectionWith(
  raw: RawOptions,
  connection: ConnectionOptions,
  environment: Readonly<Record<string, string | undefined>>,
): ConnectionOptions {
  const { config } = raw;
  if (typeof config !== 'string') return connection;
  const settings = Object.keys(VARIABLES).map((key) => ({ key, kind: 'text' as const }));
  const file = readConfigFile(config, { settings });
  const written = [...file.settings].filter(
    ([key]) => (environment[VARIABLES[key] ?? ''] ?? '') === '',
  );
  const names = written.map(([key, value]) => [
    new Option(`--${key} <value>`).attributeName(),
    value,
  ]);
  return parseConnection({ ...Object.fromEntries(names), ...withoutUndefined(raw) }, environment);
}

function withoutUndefined(raw: RawOptions): RawOptions {
  return Object.fromEntries(Object.entries(raw).filter(([, value]) => value !== undefined));
}

type Result<T> =
  | { readonly ok: true; readonly options: T }
  | { readonly ok: false; readonly problems: readonly string[]; readonly error: KaonError };

function read<T>(reading: SettingsReading<T>): {
  readonly file: ConfigFile | undefined;
  readonly found: readonly Found[];
  readonly result: Result<T>;
} {
  const { source, structured } = reading;
  const given = source.typed['config'];
  const path = typeof given === 'string' ? configPath(given) : undefined;
  const settings = source.flags.flatMap((flag) => specOf(flag) ?? []);
  // What a daemon had before there was this form is read by the daemon.
  const isToml = path !== undefined && !path.endsWith('.json');
  const file = isToml ? readConfigFile(path, { settings, structured }) : undefined;
  const found = source.flags.flatMap((flag) => find(source, file, flag) ?? []);
  const config = path === undefined || isToml ? {} : { config: path };
  const raw = { ...Object.fromEntries(found.map(rawEntry)), ...config };
  return { file, found, result: parseAll(reading, { raw, found, file }) };
}

function rawEntry({ flag, value }: Found): [string, TypedValue | undefined] {
  return [flag.attributeName(), value];
}

/** @returns absent if it is no setting */
function specOf(flag: Option): SettingSpec | undefined {
  const key = (flag.long ?? '').replace(/^--/, '');
  return key === '' || NOT_SETTINGS.has(key) ? undefined : { key, kind: kindOf(flag) };
}

function kindOf(flag: Option): SettingKind {
  if (flag.isBoolean()) return 'switch';
  const [, placeholder = ''] = /[<[]([^>\]]+)[>\]]/.exec(flag.flags) ?? [];
  // A flag that collects its values may be given several times.
  const isRepeated = flag.parseArg !== undefined || flag.variadic;
  if (isRepeated) return placeholder.includes('=') ? 'pairs' : 'list';
  return placeholder === 'list' ? 'fields' : 'text';
}

function find(
  source: SettingsSource,
  file: ConfigFile | undefined,
  flag: Option,
): Found | undefined {
  const spec = specOf(flag);
  if (!spec) return undefined;
  const { key } = spec;
  const value = source.typed[flag.attributeName()];
  const own = { flag, key, value, isFromFile: false };
  const from = source.sourceOf(flag.attributeName());
  if (from === 'cli') return { ...own, source: 'flag' };
  const variable = flag.envVar ?? VARIABLES[key] ?? '';
  if (from === 'env') return { ...own, source: `environment ${variable}` };
  // Of a variable that commander does not know, whoever uses the value takes it from the environment.
  if ((source.environment[variable] ?? '') !== '')
    return { ...own, value: undefined, source: `environment ${variable}` };
  return (file && findInFile(own, file)) ?? { ...own, source: defaultOf(flag, value) };
}

function findInFile(own: Omit<Found, 'source'>, file: ConfigFile): Found | undefined {
  const value = file.settings.get(own.key);
  if (value === undefined) return undefined;
  const line = file.lines.get(own.key);
  const source = line === undefined ? file.path : `${file.path}:${String(line)}`;
  return { ...own, value, source, isFromFile: true };
}

function defaultOf(flag: Option, value: TypedValue | undefined): string {
  const [, words] = /\(default: (.*)\)$/.exec(flag.description) ?? [];
  return value === undefined && words !== undefined ? `default: ${words}` : 'default';
}

interface Reading {
  readonly raw: RawOptions;
  readonly found: readonly Found[];
  readonly file: ConfigFile | undefined;
}

/** Goes on after a value that is wrong, without it, so that all that are wrong are told. */
function parseAll<T>(
  { source, parse }: SettingsReading<T>,
  { raw, found, file }: Reading,
): Result<T> {
  const problems = (file?.problems ?? []).map((problem) =>
    describeProblem(file?.path ?? '', problem),
  );
  let first: unknown;
  let left: RawOptions = raw;
  for (;;) {
    try {
      const connection = parseConnection(left, source.environment);
      parseRedisUrl(connection.redis);
      const options = parse({ raw: left, connection, structured: file?.structured ?? {} });
      if (problems.length === 0) return { ok: true, options };
      break;
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      first ??= error;
      const culprit = culpritOf(error, found, left);
      problems.push(placed(error, { culprit, file }));
      // Its default is right, so this comes to an end.
      if (!culprit) break;
      left = { ...left, [culprit.flag.attributeName()]: culprit.flag.defaultValue as undefined };
    }
  }
  return { ok: false, problems, error: failure({ problems, first, file, found }) };
}

/** The setting from the file that an error is about: its message begins with the flag. */
function culpritOf(error: unknown, found: readonly Found[], left: RawOptions): Found | undefined {
  const [, flag] = /^--([a-z][a-z0-9-]*)/.exec(messageOf(error)) ?? [];
  const isAddress = ['redis-url', 'redis-tls-file'].includes(codeOf(error) ?? '');
  const key = flag ?? (isAddress ? 'redis' : undefined);
  return found.find(
    (one) => one.isFromFile && one.key === key && left[one.flag.attributeName()] === one.value,
  );
}

function placed(
  error: unknown,
  { culprit, file }: { readonly culprit: Found | undefined; readonly file: ConfigFile | undefined },
): string {
  const message = messageOf(error);
  if (culprit) return `${culprit.source}: ${message.replace(/^--/, '')}`;
  return codeOf(error) === 'config-invalid' && file ? `${file.path}: ${message}` : message;
}

function failure({
  problems,
  first,
  file,
  found,
}: {
  readonly problems: readonly string[];
  readonly first: unknown;
  readonly file: ConfigFile | undefined;
  readonly found: readonly Found[];
}): KaonError {
  const isFile =
    file !== undefined && (file.problems.length > 0 || culpritOf(first, found, {}) !== undefined);
  const hasPlace = problems.some((problem) => problem.startsWith(`${file?.path ?? '\0'}:`));
  const hint = (first as { hint?: unknown } | undefined)?.hint;
  const details = {
    ...(first !== undefined && { cause: first }),
    ...(typeof hint === 'string' && { hint }),
  };
  const code = isFile || hasPlace ? 'config-invalid' : (codeOf(first) ?? 'config-invalid');
  return new KaonError(code, problems.join('\n'), details);
}

function listOf({ environment }: SettingsSource, found: readonly Found[]): Setting[] {
  return found.map(({ key, value, source }) => {
    const variable = /^environment (\w+)$/.exec(source)?.[1];
    const shown = textOf(value ?? (variable === undefined ? undefined : environment[variable]));
    const isSecret = SECRETS.test(key) && shown !== undefined;
    return { key, source, value: isSecret ? '***' : shown && hidePassword(shown) };
  });
}

function textOf(value: TypedValue | undefined): string | undefined {
  if (value === undefined || typeof value === 'string') return value;
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return value.length === 0 ? undefined : value.join(', ');
}
