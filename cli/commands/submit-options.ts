/** `kaon submit`: from what was typed to what is to be hosted; everything is checked here, once. */
import { basename, extname } from 'node:path';
import type { WhenUnreachable } from '../../protocol/command.ts';
import { FrameworkId, idPart } from '../../protocol/ids.ts';
import { URIS_MAX_ITEMS } from '../../protocol/limits.ts';
import { isModule } from '../../schedulers/submit/bundle.ts';
import { HOSTED_ID_MAX_CHARS, MAX_RESTARTS_DEFAULT } from '../../schedulers/submit/submission.ts';
import { usageError } from '../failure.ts';
import { choiceOf, cpusOf, durationOf, flagError, memOf, pairsOf } from '../flags.ts';
import type { ConnectionOptions } from '../options.ts';
import {
  ATTRIBUTES,
  checkUser,
  GRACE,
  list,
  optional,
  text,
  VARIABLES,
  whenUnreachableOf,
} from '../parse-options.ts';
import type { RawOptions } from '../parse-options.ts';

/** More restarts in a row than this are for ever. */
const RESTARTS_MAX = 1_000_000;
/** Its own artifacts leave so much room: the program, and what is said of it. */
const URIS_MAX = URIS_MAX_ITEMS - 2;

/** `kaon submit`. */
export interface SubmitOptions extends ConnectionOptions {
  readonly cpuMillis: number;
  readonly memMib: number;
  readonly name: string;
  /** Absent: a new one, made of the name. */
  readonly frameworkId?: FrameworkId;
  readonly isStandbyWanted: boolean;
  readonly maxRestarts: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly attributes: Readonly<Record<string, string>>;
  readonly uris: readonly string[];
  readonly user?: string;
  readonly killGraceMs?: number;
  readonly whenUnreachable: WhenUnreachable;
  /** Address of Redis as the nodes see it. */
  readonly nodeRedis: string;
  readonly follow: boolean;
}

/**
 * @param argv the program and its arguments
 * @throws KaonError `usage` naming the flag, its value and what would be right
 */
export function parseSubmitOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
  argv: readonly string[],
): SubmitOptions {
  const standby = choiceOf({ flag: '--standby', value: text(raw, 'standby') ?? 'yes' }, [
    'yes',
    'no',
  ]);
  const frameworkId = text(raw, 'frameworkId');
  return {
    ...connection,
    cpuMillis: cpusOf({ flag: '--cpus', value: text(raw, 'cpus') ?? '1' }),
    memMib: memOf({ flag: '--mem', value: text(raw, 'mem') ?? '512M' }),
    name: nameOf(text(raw, 'name'), argv),
    isStandbyWanted: standby === 'yes',
    maxRestarts: restartsOf(text(raw, 'maxRestarts') ?? String(MAX_RESTARTS_DEFAULT)),
    environment: pairsOf('--env', list(raw, 'env'), VARIABLES),
    attributes: pairsOf('--attribute', list(raw, 'attribute'), ATTRIBUTES),
    uris: urisOf(list(raw, 'uri')),
    whenUnreachable: whenUnreachableOf(text(raw, 'whenUnreachable') ?? 'keep'),
    nodeRedis: text(raw, 'nodeRedis') ?? connection.redis,
    follow: raw['follow'] === true,
    ...(frameworkId !== undefined && { frameworkId: frameworkIdOf(frameworkId) }),
    ...optional('user', text(raw, 'user'), checkUser),
    ...optional('killGraceMs', text(raw, 'killGrace'), (value) =>
      durationOf({ flag: '--kill-grace', value }, GRACE),
    ),
  };
}

/** It becomes a part of ids of frameworks and tasks, and of unit names. */
function nameOf(given: string | undefined, [program = 'program']: readonly string[]): string {
  if (given === undefined) {
    const name = isModule(program) ? basename(program, extname(program)) : basename(program);
    return idPart(name);
  }
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/.test(given)) return given;
  throw flagError(
    { flag: '--name', value: given },
    'not a name; it has 1 to 40 letters, digits, "_" and "-", and begins with a letter or digit',
  );
}

function frameworkIdOf(value: string): FrameworkId {
  const flag = { flag: '--framework-id', value };
  const id = FrameworkId.safeParse(value);
  if (!id.success) throw flagError(flag, id.error.issues[0]?.message ?? 'not an id');
  if (value.length <= HOSTED_ID_MAX_CHARS) return id.data;
  throw flagError(
    flag,
    `too long; a framework that is hosted has an id of at most ${String(HOSTED_ID_MAX_CHARS)} characters`,
  );
}

function restartsOf(value: string): number {
  const count = /^\d{1,7}$/.test(value) ? Number(value) : Number.NaN;
  if (count <= RESTARTS_MAX) return count;
  throw flagError(
    { flag: '--max-restarts', value },
    `not a whole number from 0 to ${String(RESTARTS_MAX)}`,
  );
}

function urisOf(values: readonly string[]): readonly string[] {
  const bad = values.find((value) => !/^(https?|file):\/\/.|^\/./i.test(value));
  if (bad !== undefined) {
    throw flagError(
      { flag: '--uri', value: bad },
      'not http://, https:// or file://, and no absolute path on the node',
    );
  }
  if (values.length > URIS_MAX) {
    throw usageError(`--uri ${String(values.length)} times; the maximum is ${String(URIS_MAX)}`);
  }
  return values;
}
