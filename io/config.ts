/**
 * The configuration file of a daemon: TOML whose keys are the long flags of its command, `lease = "3s"` for `--lease 3s`. It
 * becomes what would have been typed, as text, so that a value is checked in one place, however it was given. What is
 * wrong with the file itself is collected, all of it, with the line: who repairs a file wants to do it once.
 */
import { readFileSync } from 'node:fs';
import { parse, TomlError } from 'smol-toml';
import { codeOf, messageOf } from '../protocol/errors.ts';
import { linesOfKeys } from './config-lines.ts';
import { closest } from './config-words.ts';

/**
 * How a setting is written: `text` as one value, `switch` as true or false, `list` as an array of values, `pairs` as a
 * table of them. `fields` is a text of `KEY=VALUE,...`, or a table.
 */
export type SettingKind = 'text' | 'switch' | 'list' | 'pairs' | 'fields';

/** A setting that the file may have. */
export interface SettingSpec {
  /** Name of the flag without its dashes: `log-level`. */
  readonly key: string;
  readonly kind: SettingKind;
}

/** What was typed for a flag, as the parser of command lines has it. */
export type TypedValue = string | boolean | readonly string[];

/** Something that is wrong, for a person. */
export interface ConfigProblem {
  /** From 1; absent if nobody knows. */
  readonly line?: number | undefined;
  readonly message: string;
}

/** A file that was read. */
export interface ConfigFile {
  readonly path: string;
  /** By the keys as they are in the file. */
  readonly settings: ReadonlyMap<string, TypedValue>;
  /** What has a form of its own, `[[queues]]`: as TOML has it, for whoever asked for it. */
  readonly structured: Readonly<Record<string, unknown>>;
  /** Where a key stands; absent if it cannot be told. */
  readonly lines: ReadonlyMap<string, number>;
  readonly problems: readonly ConfigProblem[];
}

/** What a file may have. */
export interface ConfigSchema {
  readonly settings: readonly SettingSpec[];
  /** Keys of what has a form of its own. */
  readonly structured?: readonly string[];
}

/** Reads a file and tells what is wrong with it, also that it cannot be read; never throws. */
export function readConfigFile(path: string, schema: ConfigSchema): ConfigFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const isMissing = codeOf(error) === 'ENOENT';
    const problem = { message: isMissing ? 'no such file' : `cannot be read: ${messageOf(error)}` };
    return { ...NOTHING, path, problems: [problem] };
  }
  return { ...parseConfigText(text, schema), path };
}

const NOTHING: Omit<ConfigFile, 'path'> = {
  settings: new Map(),
  structured: {},
  lines: new Map(),
  problems: [],
};

/** The same for the text of a file. */
export function parseConfigText(text: string, schema: ConfigSchema): Omit<ConfigFile, 'path'> {
  let table: Readonly<Record<string, unknown>>;
  try {
    table = parse(text);
  } catch (error) {
    return { ...NOTHING, problems: [syntaxProblem(error)] };
  }
  const lines = linesOfKeys(text);
  const specs = new Map(schema.settings.map((spec) => [spec.key, spec]));
  const own = new Set(schema.structured ?? []);
  const settings = new Map<string, TypedValue>();
  const structured: Record<string, unknown> = {};
  const problems: ConfigProblem[] = [];
  for (const [key, value] of Object.entries(table)) {
    const spec = specs.get(key);
    const line = lines.get(key);
    if (own.has(key)) structured[key] = value;
    else if (!spec) problems.push({ line, message: unknown(key, [...specs.keys(), ...own]) });
    else {
      const typed = typedValue(spec, value);
      if (typed.ok) settings.set(key, typed.value);
      else problems.push({ line, message: `${key}: ${typed.message}` });
    }
  }
  return { settings, structured, lines, problems };
}

/** @returns the problem in the form `PATH:LINE: MESSAGE`, which editors can jump to */
export function describeProblem(path: string, { line, message }: ConfigProblem): string {
  return line === undefined ? `${path}: ${message}` : `${path}:${String(line)}: ${message}`;
}

/** smol-toml shows the place in a drawing of several lines; the number of the line says the same. */
function syntaxProblem(error: unknown): ConfigProblem {
  const [first = ''] = messageOf(error).split('\n');
  const message = `not TOML: ${first.replace(/^Invalid TOML document: /, '')}`;
  return { message, line: error instanceof TomlError ? error.line : undefined };
}

function unknown(key: string, known: readonly string[]): string {
  const similar = closest(key.replaceAll('_', '-').toLowerCase(), known);
  const hint = similar === undefined ? '' : `; did you mean ${JSON.stringify(similar)}?`;
  return `unknown setting ${JSON.stringify(key)}${hint}`;
}

type Typed =
  | { readonly ok: true; readonly value: TypedValue }
  | { readonly ok: false; readonly message: string };

function typedValue({ kind, key }: SettingSpec, value: unknown): Typed {
  switch (kind) {
    case 'switch':
      if (typeof value === 'boolean') return { ok: true, value };
      return wrong(`${shown(value)} is not true or false`);
    case 'text':
      return oneValue(key, value);
    case 'fields':
      return isTable(value) ? joined(value) : oneValue(key, value);
    case 'list':
      return isTable(value) ? wrong(`a table; write ${key} = ["...", "..."]`) : manyValues(value);
    case 'pairs':
      return isTable(value) ? pairValues(value) : manyValues(value);
  }
}

function wrong(message: string): Typed {
  return { ok: false, message };
}

function oneValue(key: string, value: unknown): Typed {
  const text = textOf(value);
  if (text !== undefined) return { ok: true, value: text };
  if (typeof value === 'boolean') return wrong(`${String(value)} is not a value of it`);
  return wrong(`${shown(value)} is not one value; write ${key} = "..."`);
}

function manyValues(value: unknown): Typed {
  const items: unknown[] = Array.isArray(value) ? value : [value];
  const texts = items.map(textOf);
  const bad = texts.indexOf(undefined);
  if (bad !== -1) return wrong(`${shown(items[bad])} is neither text nor a number`);
  return { ok: true, value: texts.filter((text) => text !== undefined) };
}

function pairValues(table: Readonly<Record<string, unknown>>): Typed {
  const pairs: string[] = [];
  for (const [name, value] of Object.entries(table)) {
    const text = textOf(value);
    if (text === undefined) return wrong(`${name} = ${shown(value)} is neither text nor a number`);
    pairs.push(`${name}=${text}`);
  }
  return { ok: true, value: pairs };
}

function joined(table: Readonly<Record<string, unknown>>): Typed {
  const pairs = pairValues(table);
  return pairs.ok ? { ok: true, value: (pairs.value as readonly string[]).join(',') } : pairs;
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return typeof value === 'number' ? String(value) : undefined;
}

function isTable(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !('toISOString' in value)
  );
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (isTable(value)) return 'a table';
  return typeof value === 'object' ? 'a date' : JSON.stringify(value);
}
