/**
 * Why a connection to Redis does not come about, where TLS may be the reason. What the failed connection itself has said
 * is often only that it was cut; so this one asks again, looks at the certificate, and tells no secret to anybody.
 */
import { X509Certificate } from 'node:crypto';
import { createConnection } from 'node:net';
import { checkServerIdentity, connect as connectTls } from 'node:tls';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { codeOf } from '../protocol/errors.ts';
import { certificateFacts } from './certificate-facts.ts';
import type { KaonError } from '../protocol/errors.ts';
import { tlsOptionsOf } from './redis-tls.ts';
import type { TlsPaths } from './redis-tls.ts';
import type { HostAndPort, RedisAddress } from './redis-url.ts';
import { clientRefused, noTls, plainToTls, serverProblem } from './tls-words.ts';

/** A server that says nothing for so long will not, milliseconds. */
const SILENCE_MS = 5000;
/** A refusal of TLS 1.3 comes after the handshake, so nothing is asked before this time, milliseconds. */
const REFUSAL_MS = 150;

/** The same error is looked into again after this time, milliseconds. */
const ASK_AGAIN_MS = 30_000;

/** Of these the reason is known, and it is not TLS. */
const NOT_TLS = /^(?:ECONNREFUSED|ENOENT|EACCES|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH)$/;
/** How ioredis and Node say that a server has hung up, or has not spoken Redis. */
const CUT = /^(?:ECONNRESET|EPIPE)$/;
const CUT_MESSAGE = /Connection is closed|as reply type byte/;

/** Whether it is worth asking: TLS is wanted and something else than the way is wrong, or a plain connection was cut. */
export function mayBeTls(address: RedisAddress, error: Error): boolean {
  const code = codeOf(error) ?? '';
  if (address.path !== undefined || NOT_TLS.test(code) || code.startsWith('redis-')) return false;
  if (address.tls) return !/^(?:NOAUTH|WRONGPASS|NOPERM|LOADING|DENIED|ERR) /.test(error.message);
  return CUT.test(code) || CUT_MESSAGE.test(error.message);
}

/**
 * Asks each server that the address names, until one shows what is wrong. Takes ten seconds a server at most.
 *
 * @returns KaonError `redis-tls`: what was found, and what to do; undefined if TLS is not what is wrong
 */
export async function findTlsProblem(address: RedisAddress): Promise<KaonError | undefined> {
  const { host = '127.0.0.1', port = 0 } = address;
  for (const server of address.sentinels ?? address.nodes ?? [{ host, port }]) {
    const problem = address.tls
      ? await problemOfTls(server, address.tls)
      : await problemOfPlain(server);
    if (problem) return problem;
  }
  return undefined;
}

/**
 * Tells errors of one connection to `tell`, each as what it is found to be. A server is asked once for a kind of error in
 * half a minute, and what is found after the connection has come about is not told.
 */
export function tlsAware(
  address: RedisAddress,
  connection: { on(event: 'ready', listener: () => void): unknown },
  tell: (error: Error) => void,
): (error: Error) => void {
  let asked: { message: string; atMs: number; found: Error } | undefined;
  let readies = 0;
  connection.on('ready', () => {
    readies += 1;
    asked = undefined;
  });
  return (error) => {
    if (!mayBeTls(address, error)) {
      tell(error);
      return;
    }
    const nowMs = performance.now();
    if (asked?.message === error.message && nowMs - asked.atMs < ASK_AGAIN_MS) {
      tell(asked.found);
      return;
    }
    const before = readies;
    const known = { message: error.message, atMs: nowMs, found: error };
    asked = known;
    void findTlsProblem(address).then((problem) => {
      known.found = problem ?? error;
      if (readies === before) tell(known.found);
    });
  };
}

async function problemOfTls(server: HostAndPort, paths: TlsPaths): Promise<KaonError | undefined> {
  const met = await meetTls(server, paths);
  const { certificate, authorizationError, failure } = met;
  if (certificate) {
    const found = { server, paths, facts: certificateFacts(certificate) };
    const problem = serverProblem(found, authorizationError ?? met.identityError?.message);
    if (problem) return problem;
    if (failure !== undefined) return clientRefused(found, failure);
    return undefined;
  }
  // In TLS 1.2 the refusal comes in the middle of the handshake.
  if (failure !== undefined && /alert/i.test(failure))
    return clientRefused({ server, paths }, failure);
  return (await answersInPlain(server)) ? noTls(server) : undefined;
}

async function problemOfPlain(server: HostAndPort): Promise<KaonError | undefined> {
  const { certificate, failure } = await meetTls(server, {});
  if (certificate) return plainToTls(server, certificateFacts(certificate));
  return failure !== undefined && /alert/i.test(failure) ? plainToTls(server) : undefined;
}

interface Meeting {
  readonly certificate?: X509Certificate;
  /** Why it is not trusted: a code of OpenSSL, `CERT_HAS_EXPIRED`. */
  readonly authorizationError?: string;
  readonly identityError?: Error;
  /** Why the server ended the connection; undefined if it has answered, or said nothing. */
  readonly failure?: string;
}

/** A handshake, and PING if the server may be trusted: its certificate is looked at here, and whatever it is, no password follows. */
function meetTls({ host, port }: HostAndPort, paths: TlsPaths): Promise<Meeting> {
  return new Promise((resolve) => {
    let seen: Meeting = {};
    const options = { ...tlsOptionsOf(paths, host), host, port, rejectUnauthorized: false };
    const socket = connectTls(options, () => {
      seen = look(socket, host);
      if (seen.authorizationError === undefined && !seen.identityError) {
        setTimeout(() => socket.write('PING\r\n'), REFUSAL_MS);
      } else end();
    });
    const timer = setTimeout(() => {
      end();
    }, SILENCE_MS);
    const end = (failure?: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(failure === undefined ? seen : { ...seen, failure });
    };
    socket.once('data', () => {
      end();
    });
    socket.once('error', (error) => {
      end(`${codeOf(error) ?? ''} ${error.message}`);
    });
    socket.once('end', () => {
      end('it closed the connection');
    });
  });
}

function look(socket: TLSSocket, host: string): Meeting {
  // Node 20 loses the names of the certificate if it is asked for in its other form first.
  const peer: Partial<PeerCertificate> = socket.getPeerCertificate();
  const reason = socket.authorizationError as unknown;
  const code = typeof reason === 'string' ? reason : codeOf(reason);
  const identityError =
    code === undefined ? checkServerIdentity(host, peer as PeerCertificate) : undefined;
  return {
    ...(peer.raw && { certificate: new X509Certificate(peer.raw) }),
    ...(code !== undefined && { authorizationError: code }),
    ...(identityError && { identityError }),
  };
}

function answersInPlain({ host, port }: HostAndPort): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port }, () => {
      socket.write('PING\r\n');
    });
    const end = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.setTimeout(SILENCE_MS, () => {
      end(false);
    });
    socket.once('data', (data) => {
      end(/^(?:\+PONG|-[A-Z])/.test(data.toString('latin1')));
    });
    socket.once('error', () => {
      end(false);
    });
    socket.once('end', () => {
      end(false);
    });
  });
}
