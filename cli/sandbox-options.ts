/** Flags about the sandboxes of tasks, from text to what is meant: of the agent of a node, and of who launches a task. */
import type { SandboxSettings } from '../agent/sandboxing.ts';
import type { Network, Relaxation } from '../protocol/sandboxing.ts';
import { isRelaxation, NETWORKS, RELAXATION_NAMES } from '../protocol/sandboxing.ts';
import { choiceOf, flagError } from './flags.ts';
import type { RawOptions } from './parse-options.ts';

const USER = /^([A-Za-z_][A-Za-z0-9_.-]{0,31}|\d{1,10})$/;

/** Of a task that is launched here. */
export interface RunSandboxing {
  readonly relax: Relaxation[];
  readonly network: Network;
}

/** @returns what an agent is told of its tasks; what was not given is absent @throws KaonError `usage` */
export function parseSandboxSettings(raw: RawOptions): SandboxSettings {
  const taskUser = raw['taskUser'];
  const relax = partsOf('--relax', raw['relax']);
  const allowRelax = partsOf('--allow-relax', raw['allowRelax']);
  const allowUsers = texts(raw['allowUser']);
  const expose = texts(raw['expose']);
  for (const value of allowUsers) if (value !== '*') checkUser('--allow-user', value);
  for (const value of expose) {
    if (!value.startsWith('/'))
      throw flagError({ flag: '--expose', value }, 'not an absolute path');
  }
  return {
    ...(typeof taskUser === 'string' && { taskUser: checkUser('--task-user', taskUser) }),
    ...(raw['allowRoot'] === true && { allowRoot: true }),
    ...(allowUsers.length > 0 && { allowUsers }),
    ...(relax.length > 0 && { relax }),
    ...(allowRelax.length > 0 && { allowRelax }),
    ...(expose.length > 0 && { expose }),
  };
}

/** The flags again, for an agent that is started with them. */
export function sandboxArguments(settings: SandboxSettings): string[] {
  const {
    taskUser,
    allowRoot,
    allowUsers = [],
    allowRelax = [],
    relax = [],
    expose = [],
  } = settings;
  return [
    ...(taskUser === undefined ? [] : ['--task-user', taskUser]),
    ...(allowRoot === true ? ['--allow-root'] : []),
    ...allowUsers.flatMap((user) => ['--allow-user', user]),
    ...(allowRelax.length === 0 ? [] : ['--allow-relax', allowRelax.join(',')]),
    ...(relax.length === 0 ? [] : ['--relax', relax.join(',')]),
    ...expose.flatMap((path) => ['--expose', path]),
  ];
}

/** @returns what a task asks for; undefined if that is the usual @throws KaonError `usage` */
export function parseRunSandboxing(raw: RawOptions): RunSandboxing | undefined {
  const relax = partsOf('--relax', raw['relax']);
  const given = raw['network'];
  const value = typeof given === 'string' ? given : 'full';
  const network = choiceOf({ flag: '--network', value }, NETWORKS);
  return relax.length === 0 && network === 'full' ? undefined : { relax, network };
}

function partsOf(flag: string, given: unknown): Relaxation[] {
  const names = texts(given).flatMap((value) => value.split(',').map((name) => name.trim()));
  const found = names.flatMap((value) => {
    if (value === 'all') return RELAXATION_NAMES;
    if (isRelaxation(value)) return [value];
    const known = RELAXATION_NAMES.join(', ');
    throw flagError({ flag, value }, `not a part of the sandbox; write all, or some of ${known}`);
  });
  return [...new Set(found)];
}

function checkUser(flag: string, value: string): string {
  if (USER.test(value)) return value;
  throw flagError({ flag, value }, 'not a user name');
}

function texts(given: unknown): string[] {
  if (typeof given === 'string') return [given];
  return Array.isArray(given) ? given.map(String) : [];
}
