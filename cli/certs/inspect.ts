/** Looks at certificates on disk: who has signed them, when they end, and whether key and file fit. Changes nothing. */
import { createPrivateKey } from 'node:crypto';
import type { X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { certificateFacts, formatUtc, readCertificate } from '../../io/certificate-facts.ts';
import type { CertificateFacts } from '../../io/certificate-facts.ts';
import { AUTHORITY, daysLeft, isSignedBy } from './authority.ts';

/** From then on before its end, a certificate is warned about, days. */
export const WARN_DAYS = 30;

const PURPOSES: Readonly<Record<string, string>> = {
  '1.3.6.1.5.5.7.3.1': 'server',
  '1.3.6.1.5.5.7.3.2': 'client',
};

/** A certificate on disk, and what is wrong with it. */
export interface Inspected {
  readonly name: string;
  readonly path: string;
  readonly facts: CertificateFacts;
  /** `server`, `client`, `authority`. */
  readonly uses: readonly string[];
  /** The subject of the authority beside it that has signed it; undefined: it was another one. */
  readonly signedBy: string | undefined;
  /** Negative if it has ended. */
  readonly daysLeft: number;
  /** It cannot be used as it is: one sentence each. */
  readonly faults: readonly string[];
  readonly warnings: readonly string[];
}

/** @returns the certificates of a directory, the authority first, then by name */
export function inspectDirectory(directory: string): Inspected[] {
  const names = readdirSync(directory)
    .filter((file) => file.endsWith('.crt'))
    .map((file) => file.slice(0, -'.crt'.length))
    .sort((a, b) => Number(b === AUTHORITY) - Number(a === AUTHORITY) || a.localeCompare(b));
  return names.flatMap((name) => inspect(join(directory, `${name}.crt`)) ?? []);
}

/**
 * @param caPath the authority to check against; default: `ca.crt` beside the file
 * @returns undefined if the file is not a certificate in PEM
 */
export function inspect(path: string, caPath?: string): Inspected | undefined {
  const certificate = readCertificate(path);
  if (!certificate) return undefined;
  const facts = certificateFacts(certificate);
  const authorityPath = caPath ?? join(dirname(resolve(path)), `${AUTHORITY}.crt`);
  const authority = readCertificate(authorityPath);
  const isSigned = authority !== undefined && isSignedBy(certificate, authority);
  const faults = [
    ...endFaults(facts),
    ...(authority && !isSigned ? [`it is not signed by the authority in ${authorityPath}`] : []),
    ...keyFaults(path, certificate),
  ];
  const left = daysLeft(facts);
  const ends = `it ends in ${String(left)} days, at ${formatUtc(facts.untilMs)}`;
  return {
    name: basename(path).replace(/\.(?:crt|pem)$/, ''),
    path,
    facts,
    uses: usesOf(certificate),
    signedBy: isSigned ? certificateFacts(authority).subject : undefined,
    daysLeft: left,
    faults,
    warnings: faults.length === 0 && left < WARN_DAYS ? [ends] : [],
  };
}

function endFaults({ fromMs, untilMs }: CertificateFacts): string[] {
  const nowMs = Date.now();
  if (nowMs > untilMs) return [`it has ended at ${formatUtc(untilMs)}`];
  return nowMs < fromMs ? [`it is valid from ${formatUtc(fromMs)} on, and not yet`] : [];
}

/** Of the key beside it; one that is not here may be where it is used. */
function keyFaults(certPath: string, certificate: X509Certificate): string[] {
  const path = certPath.replace(/\.(?:crt|pem)$/, '.key');
  if (path === certPath || !existsSync(path)) return [];
  try {
    const mode = statSync(path).mode & 0o777;
    const faults = certificate.checkPrivateKey(createPrivateKey(readFileSync(path)))
      ? []
      : [`${path} is the key of another certificate`];
    if ((mode & 0o007) !== 0) {
      faults.push(`everybody may read ${path}: chmod 600 it, and think of it as known`);
    }
    return faults;
  } catch {
    return [`${path} cannot be read as a key by this user`];
  }
}

function usesOf(certificate: X509Certificate): string[] {
  if (certificate.ca) return ['authority'];
  // Node names this after key usage, but it is the extended one, as object identifiers.
  const purposes = (certificate.keyUsage as readonly string[] | undefined) ?? [];
  return purposes.flatMap((purpose) => PURPOSES[purpose] ?? []);
}
