/** What is wrong with TLS between this process and a Redis, in words: what was found, and what to do about it. */
import { KaonError } from '../protocol/errors.ts';
import {
  certificateFacts,
  describeCertificate,
  formatUtc,
  readCertificate,
} from './certificate-facts.ts';
import type { CertificateFacts } from './certificate-facts.ts';
import type { TlsPaths } from './redis-tls.ts';
import type { HostAndPort } from './redis-url.ts';

/** Whom a connection has met, and with which files. */
export interface MetServer {
  readonly server: HostAndPort;
  readonly paths: TlsPaths;
  /** Of the certificate that it has shown. */
  readonly facts?: CertificateFacts;
}

/**
 * @param reason code of OpenSSL (`CERT_HAS_EXPIRED`), or why the name does not fit; undefined: nothing is wrong
 * @returns KaonError `redis-tls` about the server's certificate; undefined if nothing is wrong with it
 */
export function serverProblem(met: MetServer, reason: string | undefined): KaonError | undefined {
  const { server, facts } = met;
  if (reason === undefined || !facts) return undefined;
  const whose = `the certificate of ${nameOf(server)}`;
  const found = describeCertificate(facts);
  if (reason === 'CERT_HAS_EXPIRED') return expired(met, facts);
  if (reason === 'CERT_NOT_YET_VALID') {
    const from = formatUtc(facts.fromMs);
    return fault(
      `${whose} is valid from ${from} on, and not yet (${found})`,
      'is one of the clocks wrong?',
    );
  }
  if (/altname|does not match|not in the cert/i.test(reason)) {
    const names = facts.names === '' ? 'no host at all' : facts.names;
    return fault(
      `${whose} is for ${names}, and not for ${server.host} (${found})`,
      `use one of its names in the address, or make one for this: kaon certs issue NAME --server ${hostFlag(server.host)}`,
    );
  }
  if (/SELF_SIGNED|UNABLE_TO_(?:GET_ISSUER|VERIFY)|CERT_SIGNATURE|CERT_UNTRUSTED/.test(reason)) {
    return foreign(met, whose, found);
  }
  return fault(`${whose} is refused: ${reason} (${found})`, CHECK_HINT);
}

const CHECK_HINT = 'kaon certs check FILE says more about a certificate';

/** What has ended may be the server's own certificate or the authority's. */
function expired({ server, paths }: MetServer, facts: CertificateFacts): KaonError {
  const own = facts.untilMs < Date.now();
  const authority = paths.ca === undefined ? undefined : factsOf(paths.ca);
  if (!own && authority && authority.untilMs < Date.now()) {
    return fault(
      `the authority in ${paths.ca ?? ''} has ended at ${formatUtc(authority.untilMs)} (${authority.subject})`,
      'make a new one, and new certificates: kaon certs init --force, kaon certs issue NAME',
    );
  }
  return fault(
    `the certificate of ${nameOf(server)} has ended at ${formatUtc(facts.untilMs)} (${facts.subject}, issued by ${facts.issuer})`,
    'make a new one and let Redis read it: kaon certs issue NAME --force; redis-cli CONFIG SET tls-cert-file PATH',
  );
}

function foreign({ paths }: MetServer, whose: string, found: string): KaonError {
  if (paths.ca === undefined) {
    return fault(
      `${whose} is signed by nobody whom this system trusts (${found})`,
      'give the authority that has signed it: --redis-ca PATH, or KAON_REDIS_CA',
    );
  }
  const authority = factsOf(paths.ca);
  const ours = authority ? `${authority.subject} in ${paths.ca}` : paths.ca;
  return fault(
    `${whose} is not signed by ${ours} (${found})`,
    'is it the right server, and --redis-ca the authority that has signed its certificate?',
  );
}

/** @param reason what the server's end of the connection has said */
export function clientRefused({ server, paths }: MetServer, reason: string): KaonError {
  const who = nameOf(server);
  if (paths.cert === undefined) {
    return fault(
      `${who} wants a client certificate, and none was given`,
      'give one: --redis-cert PATH --redis-key PATH; kaon certs issue NAME --client makes them',
    );
  }
  const facts = factsOf(paths.cert);
  const found = facts ? ` (${describeCertificate(facts)})` : '';
  const whose = `the client certificate ${paths.cert}`;
  if (facts && facts.untilMs < Date.now()) {
    return fault(
      `${who} refuses ${whose}: it has ended at ${formatUtc(facts.untilMs)} (${facts.subject}, issued by ${facts.issuer})`,
      'make a new one: kaon certs issue NAME --client --force',
    );
  }
  const alert = /alert ([a-z ]+)/.exec(reason)?.[1]?.trim();
  const why = alert === undefined || alert === 'number' ? '' : `, saying ${alert}`;
  return fault(
    `${who} refuses ${whose}${why}${found}`,
    'it has to be signed by the authority that Redis has as tls-ca-cert-file',
  );
}

/** A TLS address of a server that speaks Redis in plain. */
export function noTls(server: HostAndPort): KaonError {
  return fault(
    `${nameOf(server)} speaks Redis without TLS, and the address asks for TLS`,
    'is it another port (tls-port in redis.conf)? Without TLS the address begins with redis:// and not rediss://',
  );
}

/** A plain address of a server that speaks TLS. @param facts of its certificate, if it has shown one */
export function plainToTls(server: HostAndPort, facts?: CertificateFacts): KaonError {
  const found = facts ? ` (it shows ${describeCertificate(facts)})` : '';
  return fault(
    `${nameOf(server)} speaks TLS${found}, and the address does not`,
    'write rediss:// in the address, with --redis-ca PATH if the authority is your own',
  );
}

function fault(message: string, hint: string): KaonError {
  return new KaonError('redis-tls', message, { hint });
}

function factsOf(path: string): CertificateFacts | undefined {
  const certificate = readCertificate(path);
  return certificate && certificateFacts(certificate);
}

function nameOf({ host, port }: HostAndPort): string {
  return `${host.includes(':') ? `[${host}]` : host}:${String(port)}`;
}

function hostFlag(host: string): string {
  return /^[\d.]+$|:/.test(host) ? `--ip ${host}` : `--host ${host}`;
}
