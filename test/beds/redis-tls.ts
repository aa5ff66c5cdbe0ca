/**
 * A Redis that speaks only TLS and demands a client certificate, with a certificate authority of its own made by
 * openssl in the temporary directory.
 */
import { execFileSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endProcess, freePorts, LOOPBACK, startRedisProcess } from './redis-process.ts';

export interface TlsRedisBed {
  /** `rediss://...?ca=...&cert=...&key=...`, as `kaon --redis` takes it. */
  readonly url: string;
  /** The same without the certificates. */
  readonly bareUrl: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** SIGKILL, and start with what the append-only file has. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startTlsRedisBed(): Promise<TlsRedisBed> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-redis-tls-'));
  makeAuthority(directory);
  const server = makeCertificate(directory, 'server');
  const client = makeCertificate(directory, 'client');
  const ca = join(directory, 'ca.crt');
  const [port = 0] = await freePorts(1);
  const argv = ['--port', '0', '--tls-port', String(port), '--bind', LOOPBACK];
  argv.push('--tls-cert-file', server.cert, '--tls-key-file', server.key);
  argv.push('--tls-ca-cert-file', ca, '--tls-auth-clients', 'yes');
  argv.push('--dir', directory, '--save', '', '--appendonly', 'yes');
  const tls = {
    ca: readFileSync(ca),
    cert: readFileSync(client.cert),
    key: readFileSync(client.key),
  };
  const start = (): Promise<ChildProcess> => startRedisProcess(argv, { host: LOOPBACK, port, tls });
  let child = await start();
  const bareUrl = `rediss://${LOOPBACK}:${String(port)}`;
  const query = new URLSearchParams({ ca, ...client }).toString();
  return {
    url: `${bareUrl}?${query}`,
    bareUrl,
    ca,
    ...client,
    restart: async () => {
      await endProcess(child);
      child = await start();
    },
    stop: async () => {
      await endProcess(child);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}

function makeKey(path: string): void {
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', path);
}

function makeAuthority(directory: string): void {
  const key = join(directory, 'ca.key');
  makeKey(key);
  const cert = join(directory, 'ca.crt');
  openssl(
    'req',
    '-x509',
    '-new',
    '-key',
    key,
    '-days',
    '2',
    '-subj',
    '/CN=kaon-test-ca',
    '-out',
    cert,
  );
}

function makeCertificate(directory: string, name: string): { cert: string; key: string } {
  const [key, request, cert, extensions] = ['key', 'csr', 'crt', 'ext'].map((ending) =>
    join(directory, `${name}.${ending}`),
  ) as [string, string, string, string];
  makeKey(key);
  openssl('req', '-new', '-key', key, '-subj', `/CN=${name}`, '-out', request);
  writeFileSync(extensions, `subjectAltName=IP:${LOOPBACK},DNS:localhost\n`);
  const authority = ['-CA', join(directory, 'ca.crt'), '-CAkey', join(directory, 'ca.key')];
  openssl(
    ...['x509', '-req', '-in', request, ...authority, '-CAcreateserial', '-days', '2'],
    ...['-extfile', extensions, '-out', cert],
  );
  return { cert, key };
}
