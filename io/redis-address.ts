/**
 * The address of Redis that a process uses: from what it was given or the environment, with the paths of certificates put
 * into it. From there on they are part of the address, wherever that goes. Pure.
 */
import { KaonError } from '../protocol/errors.ts';
import { REDIS_URL_DEFAULT, withTlsPaths } from './redis-url.ts';

/** A setting of TLS: in the address, as a flag, and in the environment. */
const TLS_SETTINGS = [
  { setting: 'ca', flag: '--redis-ca', variable: 'KAON_REDIS_CA' },
  { setting: 'cert', flag: '--redis-cert', variable: 'KAON_REDIS_CERT' },
  { setting: 'key', flag: '--redis-key', variable: 'KAON_REDIS_KEY' },
] as const;

/** What was said to this process itself; it overrides the environment, each for itself. */
export interface GivenAddress {
  readonly redis?: string | undefined;
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/**
 * @param environment `KAON_REDIS`, and for TLS `KAON_REDIS_CA`, `KAON_REDIS_CERT` and `KAON_REDIS_KEY`; '' is as not set
 * @throws KaonError `redis-url` if there are certificates for an address without TLS: who gives them expects TLS. Those in
 *   the environment do not count for a unix socket.
 */
export function redisAddressOf(
  given: GivenAddress,
  environment: Readonly<Record<string, string | undefined>>,
): string {
  const url = given.redis ?? nonEmpty(environment['KAON_REDIS']) ?? REDIS_URL_DEFAULT;
  const paths: Record<string, string> = {};
  for (const { setting, flag, variable } of TLS_SETTINGS) {
    const path = given[setting] ?? nonEmpty(environment[variable]);
    if (path === undefined) continue;
    const isGiven = given[setting] !== undefined;
    if (!url.startsWith('rediss') && (isGiven || !url.startsWith('unix:'))) {
      throw new KaonError(
        'redis-url',
        `${isGiven ? flag : variable} ${path}: the address of Redis is one without TLS`,
        {
          hint: 'TLS is asked for by rediss:// in the address; without it, leave certificates away',
        },
      );
    }
    paths[setting] = path;
  }
  return withTlsPaths(url, paths);
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}
