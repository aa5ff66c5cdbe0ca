/** Where the API may listen: what would let strangers in is refused when the master starts. Pure. */
import { isIP } from 'node:net';
import { KaonError } from '../../protocol/errors.ts';

/** What `--listen` and the flags next to it say. */
export interface ListenSettings {
  readonly host: string;
  readonly port: number;
  /** In an open cluster, where everybody who reaches it may do everything. */
  readonly insecure: boolean;
  /** PEM files. */
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
}

/**
 * @param isSecured the cluster has a key, so that a token is asked for
 * @throws KaonError `api-refused`
 */
export function checkListen(settings: ListenSettings, isSecured: boolean): void {
  const { host, insecure, tlsCert, tlsClientCa } = settings;
  if (isLoopback(host)) return;
  if (tlsCert === undefined) {
    throw refusal(
      `would listen on ${host} without TLS, where tokens and all that is said could be read on the way`,
      'give --tls-cert and --tls-key (kaon certs issue NAME --server makes them), or listen on the loopback: --listen PORT',
    );
  }
  if (isSecured || insecure || tlsClientCa !== undefined) return;
  throw refusal(
    `would listen on ${host} in a cluster without a key, where nobody is asked for a token`,
    'give the cluster a key (kaon token new-key), ask for certificates with --tls-client-ca, or say --listen-insecure',
  );
}

/** Whether only this machine can reach it. A name may lead anywhere, and only `localhost` is sure. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost' || host === '::1') return true;
  return isIP(host) === 4 && host.startsWith('127.');
}

function refusal(message: string, hint: string): KaonError {
  return new KaonError('api-refused', `the API ${message}`, { hint });
}
