/**
 * Certificates for connections to Redis: reads the files that an address names, checks that they fit together, and reads
 * them again for each new connection, so that renewed ones are taken up without a restart. A file that is being
 * written, or a pair that does not fit, leaves the last good ones in force.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { KaonError, messageOf } from '../protocol/errors.ts';

/** Paths of PEM files; empty: the system's authorities, and no client certificate. `cert` and `key` go together. */
export interface TlsPaths {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** What `tls.connect` takes, under the names that it has there. */
export interface TlsConnectOptions {
  readonly secureContext: SecureContext;
  readonly servername?: string;
}

interface Loaded {
  /** Of all files, to see whether anything has changed. */
  readonly text: string;
  readonly context: SecureContext;
}

/**
 * Options whose certificates are read anew each time that they are looked at, as ioredis does for each connection.
 *
 * @param host name to ask for (SNI); an address or undefined asks for none
 * @throws KaonError `redis-tls-file` if a file cannot be read or does not fit to the others, now; later it does not
 */
export function tlsOptionsOf(paths: TlsPaths, host?: string): TlsConnectOptions {
  let loaded = load(paths);
  const options = {
    get secureContext(): SecureContext {
      try {
        loaded = load(paths, loaded);
      } catch {
        // Half written, or not there for a moment: the server says so if the last good ones do not do any more.
      }
      return loaded.context;
    },
  };
  return host === undefined || isIP(host) !== 0
    ? options
    : Object.assign(options, { servername: host });
}

function load(paths: TlsPaths, last?: Loaded): Loaded {
  const ca = read('ca', paths.ca);
  const cert = read('cert', paths.cert);
  const key = read('key', paths.key);
  const text = [ca, cert, key].join('\0');
  if (last?.text === text) return last;
  try {
    if (ca !== undefined) check('ca', paths.ca, () => new X509Certificate(ca));
    if (cert !== undefined && key !== undefined) checkPair(paths, cert, key);
    const files = { ...(ca !== undefined && { ca }), ...(cert !== undefined && { cert, key }) };
    return { text, context: createSecureContext(files) };
  } catch (cause) {
    if (cause instanceof KaonError) throw cause;
    throw fileError(`cannot use the certificates of the Redis address: ${messageOf(cause)}`, cause);
  }
}

function checkPair(paths: TlsPaths, cert: string, key: string): void {
  const certificate = check('cert', paths.cert, () => new X509Certificate(cert));
  const privateKey = check('key', paths.key, () => createPrivateKey(key));
  if (certificate.checkPrivateKey(privateKey)) return;
  throw fileError(`the key ${paths.key ?? ''} is not that of the certificate ${paths.cert ?? ''}`);
}

function check<T>(setting: string, path: string | undefined, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    const what = setting === 'key' ? 'a private key without a passphrase' : 'a certificate';
    throw fileError(`${setting} of the Redis address, ${path ?? ''}, is not ${what} in PEM`, cause);
  }
}

function read(setting: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw fileError(`cannot read ${setting} of the Redis address: ${messageOf(cause)}`, cause);
  }
}

function fileError(message: string, cause?: unknown): KaonError {
  return new KaonError('redis-tls-file', message, {
    cause,
    hint: 'ca, cert and key are PEM files that the user of this process may read; kaon certs check FILE looks into them',
  });
}
