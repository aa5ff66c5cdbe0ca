/**
 * Certificates of the API: read at the start, where anything wrong with them is fatal, and looked at again now and then,
 * so that renewed ones are taken up without a restart.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:https';
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions, TlsOptions } from 'node:tls';
import { certificateFacts, describeCertificate, formatUtc } from '../../io/certificate-facts.ts';
import { readCredential } from '../../io/credentials.ts';
import type { Log } from '../../io/log.ts';
import { KaonError, messageOf } from '../../protocol/errors.ts';
import type { IsOwnName } from './guards.ts';
import type { ListenSettings } from './listen.ts';

/** So often the files are looked at, milliseconds. */
const LOOK_MS = 10_000;
/** A certificate that ends within this time is warned about, milliseconds. */
const WARN_MS = 14 * 86_400_000;

/** What a server needs to speak TLS. */
export interface ServerTls {
  readonly options: TlsOptions;
  readonly isOwnName: IsOwnName;
  /** From now on the server gets what has been renewed. */
  follow(server: Pick<Server, 'setSecureContext'>): void;
  stop(): void;
}

interface Loaded {
  readonly text: string;
  readonly files: SecureContextOptions;
  readonly certificate: X509Certificate;
}

/**
 * @returns undefined if it is to speak plain HTTP
 * @throws KaonError `api-tls`
 */
export function loadServerTls(settings: ListenSettings, log: Log): ServerTls | undefined {
  const { tlsCert, tlsKey, tlsClientCa } = settings;
  if (tlsCert === undefined) return undefined;
  const paths = [tlsCert, tlsKey, tlsClientCa] as const;
  let loaded = load(paths);
  tell(log, loaded);
  let timer: NodeJS.Timeout | undefined;
  const isAsked = tlsClientCa !== undefined;
  return {
    options: { ...loaded.files, requestCert: isAsked, rejectUnauthorized: isAsked },
    isOwnName: (name) => loaded.certificate.checkHost(name, { subject: 'never' }) !== undefined,
    follow: (server) => {
      timer = setInterval(() => {
        const renewed = renew(paths, loaded, log);
        if (renewed === loaded) return;
        loaded = renewed;
        server.setSecureContext(loaded.files);
        tell(log, loaded);
      }, LOOK_MS).unref();
    },
    stop: () => {
      clearInterval(timer);
    },
  };
}

type Paths = readonly [cert: string, key: string | undefined, clientCa: string | undefined];

/** Something half written, or a key that does not fit yet, leaves what is in force. */
function renew(paths: Paths, last: Loaded, log: Log): Loaded {
  try {
    const now = load(paths);
    return now.text === last.text ? last : now;
  } catch (error) {
    log.warn('api.certificate-unusable', { error: messageOf(error), meaning: 'the old one stays' });
    return last;
  }
}

function load([certPath, keyPath, clientCaPath]: Paths): Loaded {
  const cert = read(certPath);
  const key = keyPath === undefined ? readCredential('tls-key') : read(keyPath);
  if (key === undefined) throw tlsError(`there is no key of ${certPath}`);
  const ca = clientCaPath === undefined ? undefined : read(clientCaPath);
  const files = { cert, key, ...(ca !== undefined && { ca }), minVersion: 'TLSv1.2' as const };
  try {
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
      throw new Error('the key is that of another certificate');
    createSecureContext(files);
    return { text: [cert, key, ca].join('\0'), files, certificate: new X509Certificate(cert) };
  } catch (cause) {
    throw tlsError(
      `${certPath} and ${keyPath ?? 'the credential tls-key'} are no certificate with its key: ${messageOf(cause)}`,
      cause,
    );
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw tlsError(`cannot read ${path}: ${messageOf(cause)}`, cause);
  }
}

function tell(log: Log, { certificate }: Loaded): void {
  const facts = certificateFacts(certificate);
  const leftMs = facts.untilMs - Date.now();
  const fields = { certificate: describeCertificate(facts), names: facts.names };
  if (leftMs > WARN_MS) log.info('api.certificate', fields);
  else log.warn('api.certificate-ends', { ...fields, at: formatUtc(facts.untilMs) });
}

function tlsError(problem: string, cause?: unknown): KaonError {
  return new KaonError('api-tls', `the API cannot speak TLS: ${problem}`, {
    cause,
    hint: 'kaon certs issue NAME --server makes a certificate and its key; kaon certs check FILE looks into one',
  });
}
