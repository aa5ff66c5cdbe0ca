/** What the commands of `kaon certs` are asked for, checked: names go into files and into OpenSSL's configuration. */
import { isIP } from 'node:net';
import { usageError } from '../failure.ts';
import { countFlagOf, flagError } from '../flags.ts';
import { list, text } from '../parse-options.ts';
import type { RawOptions } from '../parse-options.ts';
import { AUTHORITY } from './authority.ts';
import type { MakeOptions } from './authority.ts';
import type { CertificateRequest, Usage } from './extensions.ts';

/** Where certificates are if nobody says otherwise. */
const DIRECTORY_DEFAULT = 'kaon-certs';
const AUTHORITY_DAYS = '3650';
const CERTIFICATE_DAYS = '365';
/** A hundred years. */
const DAYS_MAX = 36_500;
const NAMES_MAX = 100;

/** `--dir`, or `kaon-certs` here. */
export function directoryOf(raw: RawOptions): string {
  const directory = text(raw, 'dir') ?? DIRECTORY_DEFAULT;
  if (directory === '') throw flagError({ flag: '--dir', value: '' }, 'not a directory');
  return directory;
}

/** @throws KaonError `usage` */
export function parseInitOptions(raw: RawOptions): MakeOptions {
  return makeOptions(raw, AUTHORITY_DAYS);
}

/** What `kaon certs issue` makes; `isDaysGiven` tells a wish from the default. */
export interface IssueOptions extends MakeOptions {
  readonly request: CertificateRequest;
  readonly isDaysGiven: boolean;
}

/**
 * @param name of the certificate; a server that is given no host is reached by it
 * @throws KaonError `usage`
 */
export function parseIssueOptions(raw: RawOptions, name: string): IssueOptions {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name) || name.includes('..')) {
    throw usageError(
      `not a name of a certificate: ${name}`,
      'it has up to 63 letters, digits, "_", "." and "-", and begins with a letter or digit: redis1',
    );
  }
  if (name === AUTHORITY) {
    throw usageError('ca is the authority itself', 'take another name; kaon certs init makes that');
  }
  const usages: Usage[] = [
    ...(raw['server'] === true ? (['server'] as const) : []),
    ...(raw['client'] === true ? (['client'] as const) : []),
  ];
  if (usages.length === 0) usages.push('server', 'client');
  const hosts = [...new Set(list(raw, 'host').flatMap(splitList).map(checkHost))];
  const ips = [...new Set(list(raw, 'ip').flatMap(splitList).map(checkIp))];
  if (hosts.length + ips.length > NAMES_MAX) {
    throw usageError(
      `--host and --ip ${String(hosts.length + ips.length)} times; at most ${String(NAMES_MAX)}`,
    );
  }
  if (usages.includes('server') && hosts.length + ips.length === 0) hosts.push(checkHost(name));
  return {
    ...makeOptions(raw, CERTIFICATE_DAYS),
    isDaysGiven: text(raw, 'days') !== undefined,
    request: { name, hosts, ips, usages },
  };
}

function makeOptions(raw: RawOptions, days: string): MakeOptions {
  return {
    directory: directoryOf(raw),
    days: countFlagOf({ flag: '--days', value: text(raw, 'days') ?? days }, DAYS_MAX),
    force: raw['force'] === true,
  };
}

function splitList(value: string): string[] {
  return value.split(',').map((part) => part.trim());
}

function checkHost(host: string): string {
  if (isIP(host) !== 0)
    throw flagError({ flag: '--host', value: host }, `an address; write --ip ${host}`);
  const isName =
    host.length <= 253 &&
    /^(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*$/.test(host);
  if (!isName)
    throw flagError({ flag: '--host', value: host }, 'not a host name; write redis1.example.org');
  return host;
}

function checkIp(ip: string): string {
  if (isIP(ip) === 0)
    throw flagError({ flag: '--ip', value: ip }, 'not an address; write 10.0.0.5 or fd00::5');
  return ip;
}
