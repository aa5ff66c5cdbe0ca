/**
 * What a certificate says, in the few words that errors, `kaon certs` and logs need. Reads PEM files; a subject may come
 * from anybody, so whatever is shown is one line without control characters. Pure but for the reading.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** So much of a name is shown, characters. */
const NAME_MAX_CHARS = 80;

/** A certificate in words and numbers. */
export interface CertificateFacts {
  /** `CN=redis1`, several parts with commas between them. */
  readonly subject: string;
  /** Who has signed it, likewise; the subject itself for a self-signed one. */
  readonly issuer: string;
  /** `DNS:localhost, IP Address:127.0.0.1`, as OpenSSL writes it; '' if it has none. */
  readonly names: string;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly isAuthority: boolean;
}

/** @returns the facts of a certificate that has been parsed */
export function certificateFacts(certificate: X509Certificate): CertificateFacts {
  const { subject, issuer, subjectAltName, validFrom, validTo, ca } = certificate;
  return {
    subject: nameOf(subject),
    issuer: nameOf(issuer),
    names: oneLine(subjectAltName ?? ''),
    fromMs: Date.parse(validFrom),
    untilMs: Date.parse(validTo),
    isAuthority: ca,
  };
}

/** @returns the first certificate of a PEM file; undefined if it cannot be read or has none */
export function readCertificate(path: string): X509Certificate | undefined {
  try {
    return new X509Certificate(readFileSync(path));
  } catch {
    return undefined; // Whoever needs the file itself says what is wrong with it.
  }
}

/** @returns `CN=redis1, issued by CN=kaon CA, valid until 2027-11-30 03:24 UTC` */
export function describeCertificate({ subject, issuer, untilMs }: CertificateFacts): string {
  const by = subject === issuer ? 'signed by itself' : `issued by ${issuer}`;
  return `${subject}, ${by}, valid until ${formatUtc(untilMs)}`;
}

/** @returns `2027-11-30 03:24 UTC`; certificates end at a moment of the world and not of a place */
export function formatUtc(atMs: number): string {
  if (!Number.isFinite(atMs)) return 'an unknown time';
  return `${new Date(atMs).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

/** OpenSSL has a part a line. */
function nameOf(name: string | undefined): string {
  const line = oneLine((name ?? '').split('\n').filter(Boolean).join(', '));
  return line === '' ? 'a certificate without a name' : line;
}

function oneLine(text: string): string {
  const shown = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
  return shown.length <= NAME_MAX_CHARS ? shown : `${shown.slice(0, NAME_MAX_CHARS)}...`;
}
