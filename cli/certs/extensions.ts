/** What goes into a certificate, as OpenSSL's configuration has it. Pure; whatever comes in has been checked. */

/** What a certificate may be used for. */
export type Usage = 'server' | 'client';

/** Whom a certificate is for. */
export interface CertificateRequest {
  readonly name: string;
  /** DNS names and addresses by which it is reached. */
  readonly hosts: readonly string[];
  readonly ips: readonly string[];
  readonly usages: readonly Usage[];
}

const EXTENDED_USAGE: Readonly<Record<Usage, string>> = {
  server: 'serverAuth',
  client: 'clientAuth',
};

/**
 * An authority that signs certificates of servers and clients, and no other authority.
 *
 * @see RFC 5280, 4.2.1.3 (key usage) and 4.2.1.9 (basic constraints)
 */
export function authorityConfig(name: string): string {
  return configOf(name, [
    'basicConstraints = critical, CA:TRUE, pathlen:0',
    'keyUsage = critical, keyCertSign, cRLSign',
    'subjectKeyIdentifier = hash',
  ]);
}

/** @see RFC 5280, 4.2.1.6 (alternative names) and 4.2.1.12 (extended key usage) */
export function certificateConfig({ name, hosts, ips, usages }: CertificateRequest): string {
  const names = [...hosts.map((host) => `DNS:${host}`), ...ips.map((ip) => `IP:${ip}`)];
  return configOf(name, [
    'basicConstraints = critical, CA:FALSE',
    'keyUsage = critical, digitalSignature',
    `extendedKeyUsage = ${usages.map((usage) => EXTENDED_USAGE[usage]).join(', ')}`,
    'subjectKeyIdentifier = hash',
    'authorityKeyIdentifier = keyid',
    ...(names.length > 0 ? [`subjectAltName = ${names.join(', ')}`] : []),
  ]);
}

function configOf(name: string, extensions: readonly string[]): string {
  return [
    '[req]',
    'prompt = no',
    'string_mask = utf8only',
    'distinguished_name = name',
    'x509_extensions = extensions',
    '[name]',
    `CN = ${name}`,
    '[extensions]',
    ...extensions,
    '',
  ].join('\n');
}
