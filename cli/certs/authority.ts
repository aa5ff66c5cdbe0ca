/**
 * A certificate authority in a directory: `ca.crt` and `ca.key`, and next to them each certificate as `NAME.crt` and
 * `NAME.key`. What is made is made in a directory beside, checked there by openssl, and then moved to its place; a file that
 * is there is replaced only if that was asked for.
 */
import { randomBytes } from 'node:crypto';
import type { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { certificateFacts, formatUtc, readCertificate } from '../../io/certificate-facts.ts';
import type { CertificateFacts } from '../../io/certificate-facts.ts';
import { codeOf, KaonError, messageOf } from '../../protocol/errors.ts';
import { authorityConfig, certificateConfig } from './extensions.ts';
import type { CertificateRequest } from './extensions.ts';
import { openssl } from './openssl.ts';

/** Name of the authority's files. */
export const AUTHORITY = 'ca';
const DAY_MS = 86_400_000;
const SERIAL_BYTES = 16;

/** Where something is made, for how long, and whether it may replace what is there. */
export interface MakeOptions {
  readonly directory: string;
  readonly days: number;
  readonly force: boolean;
}

/** A certificate that has been made. */
export interface Made {
  readonly facts: CertificateFacts;
  readonly certPath: string;
  readonly keyPath: string;
}

/** @returns the paths of a certificate and its key, absolute */
export function pathsOf(directory: string, name: string): { certPath: string; keyPath: string } {
  const path = resolve(directory, name);
  return { certPath: `${path}.crt`, keyPath: `${path}.key` };
}

/**
 * Makes an authority. One that is replaced makes all certificates worthless that it has signed.
 *
 * @throws KaonError `certs-exist`, `certs-directory`, and those of `openssl`
 */
export async function makeAuthority(options: MakeOptions): Promise<Made> {
  const { directory, days } = options;
  makeDirectory(directory);
  const host = hostname().replace(/[^\w.-]/g, '');
  const name = `Kaon CA ${host} ${new Date().toISOString().slice(0, 10)}`.slice(0, 64);
  return inStaging(options, AUTHORITY, async (staging) => {
    const config = staging.write('config', authorityConfig(name));
    await makeKey(staging.keyPath);
    const certificate = await openssl([
      ...['req', '-x509', '-new', '-sha256', '-config', config, '-key', staging.keyPath],
      ...['-days', String(days), '-set_serial', serial()],
    ]);
    staging.write('made.crt', certificate);
    await openssl(['verify', '-CAfile', staging.certPath, staging.certPath]);
  });
}

/**
 * Makes a certificate that the authority of the directory has signed.
 *
 * @throws KaonError `certs-no-authority`, `certs-authority-ends`, `certs-exist`, and those of `openssl`
 */
export async function issueCertificate(
  request: CertificateRequest,
  options: MakeOptions,
): Promise<Made> {
  const authority = requireAuthority(options.directory);
  checkEnd(authority.facts, options.days);
  return inStaging(options, request.name, async (staging) => {
    const config = staging.write('config', certificateConfig(request));
    await makeKey(staging.keyPath);
    const head = ['req', '-new', '-sha256', '-config', config, '-key', staging.keyPath];
    const signed = await openssl(
      [
        ...['x509', '-req', '-sha256', '-CA', authority.certPath, '-CAkey', authority.keyPath],
        ...['-extfile', config, '-extensions', 'extensions'],
        ...['-days', String(options.days), '-set_serial', serial()],
      ],
      await openssl(head),
    );
    staging.write('made.crt', signed);
    for (const usage of request.usages) await verify(authority.certPath, staging.certPath, usage);
  });
}

/** @throws KaonError `openssl-failed` unless the certificate is signed by the authority, valid, and may be used so */
export async function verify(caPath: string, certPath: string, usage: string): Promise<void> {
  await openssl(['verify', '-CAfile', caPath, '-purpose', `ssl${usage}`, certPath]);
}

/** @returns days that the authority is valid for from now on, whole ones */
export function daysLeft({ untilMs }: CertificateFacts): number {
  return Math.floor((untilMs - Date.now()) / DAY_MS);
}

/** @throws KaonError `certs-no-authority` */
export function requireAuthority(directory: string): Made {
  const paths = pathsOf(directory, AUTHORITY);
  const certificate = readCertificate(paths.certPath);
  if (!certificate || !existsSync(paths.keyPath)) {
    const missing = certificate ? paths.keyPath : paths.certPath;
    throw new KaonError(
      'certs-no-authority',
      `no authority in ${directory}: ${missing} is not there`,
      {
        hint: 'kaon certs init makes one; --dir says where it is',
      },
    );
  }
  return { facts: certificateFacts(certificate), ...paths };
}

function checkEnd(authority: CertificateFacts, days: number): void {
  const left = daysLeft(authority);
  if (days <= left) return;
  throw new KaonError(
    'certs-authority-ends',
    `${String(days)} days are more than the authority has left: it ends at ${formatUtc(authority.untilMs)}`,
    {
      hint:
        left > 0
          ? `give --days ${String(left)} or less, or make another authority`
          : 'make another authority: kaon certs init --force, then all certificates anew',
    },
  );
}

interface Staging {
  readonly certPath: string;
  readonly keyPath: string;
  write(name: string, text: string): string;
}

/** Makes a certificate in a directory of its own, and moves it to its place if all went well. */
async function inStaging(
  { directory, force }: MakeOptions,
  name: string,
  make: (staging: Staging) => Promise<void>,
): Promise<Made> {
  const paths = pathsOf(directory, name);
  if (!force) refuseExisting([paths.certPath, paths.keyPath]);
  const path = mkdtempSync(join(directory, '.making-'));
  const staging: Staging = {
    certPath: join(path, 'made.crt'),
    keyPath: join(path, 'made.key'),
    write: (file, text) => {
      writeFileSync(join(path, file), text, { mode: 0o644, flag: 'wx' });
      return join(path, file);
    },
  };
  try {
    await make(staging);
    const certificate = readCertificate(staging.certPath);
    if (!certificate) throw new KaonError('openssl-failed', 'openssl has made no certificate');
    if (!force) refuseExisting([paths.certPath, paths.keyPath]);
    // The key first: a new key without its certificate is noticed, the other way round a certificate looks good and is not.
    renameSync(staging.keyPath, paths.keyPath);
    renameSync(staging.certPath, paths.certPath);
    return { facts: certificateFacts(certificate), ...paths };
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

function refuseExisting(paths: readonly string[]): void {
  const there = paths.find((path) => existsSync(path));
  if (there === undefined) return;
  throw new KaonError('certs-exist', `${there} is there already, and was left as it is`, {
    hint: 'take another name or --dir; --force replaces it',
  });
}

function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const why = codeOf(cause) === 'EACCES' ? 'this user may not write there' : messageOf(cause);
    throw new KaonError('certs-directory', `cannot make the directory ${directory}: ${why}`, {
      cause,
      hint: '--dir says where to',
    });
  }
}

/** Comes by a pipe and is written here, so that it never was readable for others. */
async function makeKey(path: string): Promise<void> {
  const key = await openssl(['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']);
  writeFileSync(path, key, { mode: 0o600, flag: 'wx' });
}

/** Positive, and of a length that nobody guesses. */
function serial(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return `0x${bytes.toString('hex')}`;
}

/** @returns whether the authority has signed the certificate; says nothing about dates */
export function isSignedBy(certificate: X509Certificate, authority: X509Certificate): boolean {
  return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
}
