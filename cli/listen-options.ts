/** Where a master's HTTP API listens, from what was typed. */
import { isIP } from 'node:net';
import type { ListenSettings } from '../master/api/listen.ts';
import { usageError } from './failure.ts';
import { flagError } from './flags.ts';
import { text } from './parse-options.ts';
import type { RawOptions } from './parse-options.ts';

/** What `kaon master` has of it; absent: no API. */
export interface ListenOptions {
  readonly listen?: ListenSettings;
}

const TLS_FLAGS = [
  ['tlsCert', '--tls-cert'],
  ['tlsKey', '--tls-key'],
  ['tlsClientCa', '--tls-client-ca'],
] as const;

/** @throws KaonError `usage` */
export function parseListenOptions(raw: RawOptions): ListenOptions {
  const given = TLS_FLAGS.filter(([key]) => text(raw, key) !== undefined);
  const insecure = raw['listenInsecure'] === true;
  const value = text(raw, 'listen');
  if (value === undefined) {
    const flag = insecure ? '--listen-insecure' : given[0]?.[1];
    if (flag === undefined) return {};
    throw usageError(`${flag} is for the HTTP API, and there is none`, 'give --listen [HOST:]PORT');
  }
  const tls = Object.fromEntries(given.map(([key]) => [key, text(raw, key) ?? '']));
  if (tls['tlsCert'] === undefined && given.length > 0) {
    throw usageError(`${given[0]?.[1] ?? ''} needs --tls-cert`);
  }
  return { listen: { ...addressOf(value), insecure, ...tls } };
}

function addressOf(value: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits = ''] =
    /^(?:(?:\[([^\]]*)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(value) ?? [];
  const host = bracketed ?? plain ?? '127.0.0.1';
  const port = Number(digits);
  const isHost = bracketed === undefined ? /^[A-Za-z0-9._-]+$/.test(host) : isIP(bracketed) === 6;
  if (digits !== '' && isHost && port <= 65_535) return { host, port };
  throw flagError(
    { flag: '--listen', value },
    'not a [HOST:]PORT; write 7420, 10.0.0.5:7420 or [::1]:7420',
  );
}
