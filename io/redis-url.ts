/**
 * Addresses of Redis, as people write them: one server (`redis://`, `rediss://`, `unix://`), a master that Sentinels
 * know (`redis+sentinel://`), or a Redis Cluster (`redis+cluster://`); the forms with `rediss` speak TLS. Pure: the
 * files that an address names are read by `redis-tls.ts`. Never shows a password.
 */
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { TlsPaths } from './redis-tls.ts';

/** Where Redis is if nobody says otherwise. */
export const REDIS_URL_DEFAULT = 'redis://127.0.0.1:6379';

const REDIS_PORT = 6379;
const SENTINEL_PORT = 26_379;

/** A host and a port. */
export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** What an address says, named as ioredis names it; exactly one of `path`, `host`, `sentinels` and `nodes` is there. */
export interface RedisAddress {
  host?: string;
  port?: number;
  path?: string;
  /** Sentinels, and the name by which they know the master. */
  sentinels?: HostAndPort[];
  name?: string;
  sentinelUsername?: string;
  sentinelPassword?: string;
  /** Some nodes of a Redis Cluster; they know the others. */
  nodes?: HostAndPort[];
  username?: string;
  password?: string;
  db?: number;
  tls?: TlsPaths;
}

/** An address taken apart, nothing decoded yet. */
interface Parts {
  readonly scheme: string;
  readonly user: string;
  readonly hosts: string;
  readonly path: string;
  readonly query: URLSearchParams;
}

const TLS_SETTINGS = ['ca', 'cert', 'key'] as const;
const SENTINEL_SETTINGS = ['sentinelUsername', 'sentinelPassword'] as const;

/**
 * @param url see above; `?ca=PATH&cert=PATH&key=PATH` with TLS, `?sentinelUsername=&sentinelPassword=` with Sentinel
 * @throws KaonError `redis-url` if it is not understood
 */
export function parseRedisUrl(url: string): RedisAddress {
  try {
    const parts = partsOf(url);
    const { scheme } = parts;
    if (scheme === 'unix') return unixAddress(parts);
    const [base, kind] = scheme.split('+');
    if (base !== 'redis' && base !== 'rediss')
      throw new Error(`${scheme}:// is not a scheme of Redis`);
    const common = { ...credentialsOf(parts), ...tlsOf(parts, base === 'rediss') };
    if (kind === undefined) return { ...common, ...serverAddress(parts) };
    if (kind === 'sentinel') return { ...common, ...sentinelAddress(parts) };
    if (kind === 'cluster') return { ...common, ...clusterAddress(parts) };
    throw new Error(`${scheme}:// is not a scheme of Redis`);
  } catch (cause) {
    throw badUrl(url, cause);
  }
}

/** The address with any password replaced by `***`, and without paths of certificates, for logs and messages. */
export function hidePassword(url: string): string {
  const shown = hidePasswords(url);
  const at = shown.indexOf('?');
  if (at < 0) return shown;
  const isShown = (part: string): boolean => !/^(?:ca|cert|key)=/.test(part);
  const settings = shown
    .slice(at + 1)
    .split('&')
    .filter(isShown);
  return settings.length > 0 ? `${shown.slice(0, at)}?${settings.join('&')}` : shown.slice(0, at);
}

function hidePasswords(url: string): string {
  // Up to the last `@` of what is left: a password that should have been percent-encoded may hold one, or a slash.
  return url
    .replace(/([?&][^=&]*password=)[^&]*/gi, '$1***')
    .replace(/(\/\/[^:@/]*):.*@/, '$1:***@');
}

function partsOf(url: string): Parts {
  const match = /^([a-z+]+):\/\/(?:([^/?]*)@)?([^/?@]*)(\/[^?]*)?(?:\?(.*))?$/.exec(url);
  if (!match) throw new Error('it does not have the form of an address');
  const [, scheme = '', user = '', hosts = '', path = '', query = ''] = match;
  return { scheme, user, hosts, path, query: new URLSearchParams(query) };
}

/** @throws URIError if a percent sign is not followed by two hexadecimal digits */
function credentialsOf({ user }: Parts): RedisAddress {
  const colon = user.indexOf(':');
  const [username, password] =
    colon < 0 ? [user, ''] : [user.slice(0, colon), user.slice(colon + 1)];
  return {
    ...(username !== '' && { username: decodeURIComponent(username) }),
    ...(password !== '' && { password: decodeURIComponent(password) }),
  };
}

function unixAddress(parts: Parts): RedisAddress {
  checkSettings(parts, ['db']);
  if (parts.path.length < 2) throw new Error('a unix address needs the path of a socket');
  const database = databaseOf(parts.query.get('db'));
  return { ...credentialsOf(parts), path: decodeURIComponent(parts.path), ...database };
}

function serverAddress(parts: Parts): RedisAddress {
  checkSettings(parts, [...TLS_SETTINGS, 'db']);
  const [{ host, port } = { host: '127.0.0.1', port: REDIS_PORT }, ...more] =
    parts.hosts === '' ? [] : hostsOf(parts.hosts, REDIS_PORT);
  if (more.length > 0) {
    throw new Error('several hosts need redis+sentinel:// or redis+cluster://');
  }
  return { host, port, ...databaseOf(parts.query.get('db') ?? parts.path.slice(1)) };
}

function sentinelAddress(parts: Parts): RedisAddress {
  checkSettings(parts, [...TLS_SETTINGS, ...SENTINEL_SETTINGS, 'db']);
  const [, name = '', database = '', ...rest] = parts.path.split('/');
  if (name === '') throw new Error('the name by which the Sentinels know the master is missing');
  if (rest.length > 0) throw new Error('after the name of the master comes a database at most');
  return {
    sentinels: hostsOf(parts.hosts, SENTINEL_PORT),
    name: decodeURIComponent(name),
    ...Object.fromEntries([...parts.query].filter(([key]) => key.startsWith('sentinel'))),
    ...databaseOf(parts.query.get('db') ?? database),
  };
}

function clusterAddress(parts: Parts): RedisAddress {
  checkSettings(parts, TLS_SETTINGS);
  if (parts.path !== '' && parts.path !== '/') throw new Error('a Redis Cluster has one database');
  return { nodes: hostsOf(parts.hosts, REDIS_PORT) };
}

function hostsOf(hosts: string, defaultPort: number): HostAndPort[] {
  return hosts.split(',').map((text) => {
    const [, bracketed, plain = '', port] =
      /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(text) ?? [];
    const host = bracketed ?? plain;
    const number = port === undefined ? defaultPort : Number(port);
    if (host === '' || number < 1 || number > 65_535) {
      throw new Error(`${JSON.stringify(text)} is not a HOST:PORT`);
    }
    return { host, port: number };
  });
}

function databaseOf(text: string | null): RedisAddress {
  if (text === null || text === '') return {};
  if (!/^\d+$/.test(text)) throw new Error('a database is a number');
  return { db: Number(text) };
}

function checkSettings({ query }: Parts, known: readonly string[]): void {
  for (const key of query.keys()) {
    if (!known.includes(key)) throw new Error(`${JSON.stringify(key)} is not a setting of it`);
  }
}

function tlsOf({ query }: Parts, isTls: boolean): RedisAddress {
  const named = TLS_SETTINGS.filter((setting) => query.has(setting));
  if (!isTls) {
    if (named.length > 0) throw new Error(`${named.join(', ')} need rediss, the form with TLS`);
    return {};
  }
  if (query.has('cert') !== query.has('key')) throw new Error('cert and key go together');
  if (named.some((setting) => query.get(setting) === '')) throw new Error('a path is missing');
  return { tls: Object.fromEntries(named.map((setting) => [setting, query.get(setting)])) };
}

/**
 * Settings of TLS from elsewhere become part of the address, so that whoever has the address has them.
 *
 * @returns the address with these paths instead of its own; as it is if it is not one with TLS
 */
export function withTlsPaths(url: string, paths: TlsPaths): string {
  if (!url.startsWith('rediss')) return url;
  const [, base = url, text = ''] = /^([^?]*)\??(.*)$/s.exec(url) ?? [];
  const query = new URLSearchParams(text);
  for (const [setting, path] of Object.entries(paths)) query.set(setting, String(path));
  // Paths stay readable; what would end a value is what has to be encoded.
  const shown = query.toString().replaceAll('%2F', '/');
  return shown === '' ? base : `${base}?${shown}`;
}

function badUrl(url: string, cause: unknown): KaonError {
  const message = `not a Redis address: ${hidePassword(url)}: ${messageOf(cause)}`;
  return new KaonError('redis-url', message, {
    cause,
    hint:
      'use redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH/TO/SOCKET, ' +
      'redis+sentinel://HOST:PORT,HOST:PORT/MASTER or redis+cluster://HOST:PORT,HOST:PORT',
  });
}
