/** Flags of the commands about roles; see `definitions-roles.ts`. */
import { FITS_MAX } from '../protocol/explanation.ts';
import type { PartialResources } from '../protocol/roles.ts';
import { ROLE_DEFAULT, Weight } from '../protocol/roles.ts';
import { NO_RESOURCES } from '../protocol/resources.ts';
import type { RoleWish } from './commands/update-role.ts';
import { usageError } from './failure.ts';
import type { ExplainOptions } from './commands/explain.ts';
import type { Flag } from './flags.ts';
import {
  countFlagOf,
  cpusOf,
  DURATION_MAX_MS,
  durationOf,
  flagError,
  memOf,
  pairsOf,
} from './flags.ts';
import type { ConnectionOptions } from './options.ts';
import { amountsOf, resourcesOf } from './resource-flags.ts';
import type { RawOptions } from './parse-options.ts';
import { ATTRIBUTES, list, optional, parseListOptions, text } from './parse-options.ts';
import { checkRole } from './role-name.ts';

/** @throws KaonError `usage` */
export function parseQuota(raw: RawOptions, role: string): RoleWish {
  const guarantee = quotaOf(raw, 'guarantee');
  const limit = quotaOf(raw, 'limit');
  if (guarantee === undefined && limit === undefined) {
    throw usageError(
      'nothing to set: give --guarantee, --limit or both; kaon quota remove takes all away',
    );
  }
  return {
    role: checkRole(role),
    ...(guarantee !== undefined && { guarantee }),
    ...(limit !== undefined && { limit }),
    force: raw['force'] === true,
  };
}

/** @throws KaonError `usage` */
export function parseDrain(raw: RawOptions): { inMs: number; deadlineMs?: number } {
  const range = { minMs: 0, maxMs: DURATION_MAX_MS };
  return {
    inMs: durationOf({ flag: '--in', value: text(raw, 'in') ?? '0s' }, range),
    ...optional('deadlineMs', text(raw, 'deadline'), (value) =>
      durationOf({ flag: '--deadline', value }, range),
    ),
  };
}

/** @throws KaonError `usage` */
export function parseExplain(raw: RawOptions, connection: ConnectionOptions): ExplainOptions {
  const given = (flag: string, key: string): Flag => ({ flag, value: text(raw, key) ?? '' });
  const others = amountsOf('--resource', list(raw, 'resource'));
  return {
    ...parseListOptions(raw, connection),
    need: {
      role: checkRole(text(raw, 'role') ?? ROLE_DEFAULT),
      resources: {
        cpuMillis: cpusOf(given('--cpus', 'cpus')),
        memMib: memOf(given('--mem', 'mem')),
        ...(others && { others }),
      },
      count: countFlagOf(given('--count', 'count'), FITS_MAX),
      attributes: pairsOf('--attribute', list(raw, 'attribute'), ATTRIBUTES),
    },
  };
}

/** `none` takes it away. */
function quotaOf(raw: RawOptions, key: 'guarantee' | 'limit'): PartialResources | null | undefined {
  const value = text(raw, key);
  if (value === undefined) return undefined;
  return value === 'none' ? null : resourcesOf({ flag: `--${key}`, value }, NO_RESOURCES);
}

/** @throws KaonError `usage` */
export function parseQuotaRemoval(role: string): RoleWish {
  return { role: checkRole(role), guarantee: null, limit: null, force: false };
}

/** @throws KaonError `usage` */
export function parseWeight(role: string, value: string): RoleWish {
  const parsed = Weight.safeParse(Number(value));
  if (value.trim() === '' || !parsed.success) {
    throw flagError({ flag: 'the weight', value }, 'not a number above 0, such as 2 or 0.5');
  }
  return { role: checkRole(role), weight: parsed.data, force: false };
}
