/** `kaon certs`: a certificate authority for a small team, for Redis with TLS and for the API of the masters. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { describeCertificate, formatUtc } from '../../io/certificate-facts.ts';
import { KaonError } from '../../protocol/errors.ts';
import {
  AUTHORITY,
  daysLeft,
  issueCertificate,
  makeAuthority,
  pathsOf,
  requireAuthority,
} from '../certs/authority.ts';
import type { Made, MakeOptions } from '../certs/authority.ts';
import { inspect, inspectDirectory } from '../certs/inspect.ts';
import type { Inspected } from '../certs/inspect.ts';
import { nextAfterInit, nextAfterIssue } from '../certs/next-steps.ts';
import type { IssueOptions } from '../certs/options.ts';
import { EXIT_FAILED, EXIT_OK } from '../failure.ts';
import { printJson, printListing } from '../print.ts';
import type { Look, Paint } from '../style.ts';
import type { Column } from '../table.ts';

/** `kaon certs init`. @returns the exit code */
export async function certsInit(options: MakeOptions): Promise<number> {
  const made = await makeAuthority(options);
  say([`made an authority: ${describeCertificate(made.facts)}`, ...filesOf(made, AUTHORITY_FILES)]);
  say(['', ...nextAfterInit(options.directory)]);
  return EXIT_OK;
}

/** `kaon certs issue`. @returns the exit code */
export async function certsIssue(options: IssueOptions): Promise<number> {
  const { request, directory } = options;
  const left = daysLeft(requireAuthority(directory).facts);
  const isShortened = !options.isDaysGiven && left > 0 && left < options.days;
  const days = isShortened ? left : options.days;
  const made = await issueCertificate(request, { ...options, days });
  const { names } = made.facts;
  const named = names === '' ? '' : `, for ${namesOf(names)}`;
  say([
    `made a certificate of a ${request.usages.join(' and ')}: ${describeCertificate(made.facts)}${named}`,
    ...(isShortened ? [`it ends with the authority, after ${String(left)} days`] : []),
    ...filesOf(made, CERTIFICATE_FILES),
    '',
    ...nextAfterIssue({ made, request, authority: pathsOf(directory, AUTHORITY).certPath }),
  ]);
  return EXIT_OK;
}

const AUTHORITY_FILES = [
  'for every node and laptop',
  'secret: whoever has it can make certificates',
];
const CERTIFICATE_FILES = ['for whoever asks', 'secret: for its owner alone (0600)'];

function filesOf({ certPath, keyPath }: Made, [cert, key]: readonly string[]): string[] {
  const width = Math.max(certPath.length, keyPath.length);
  return [`  ${certPath.padEnd(width)}  ${cert ?? ''}`, `  ${keyPath.padEnd(width)}  ${key ?? ''}`];
}

/** `kaon certs ls`. @returns the exit code: 1 if one of them cannot be used any more */
export function certsList(directory: string, isJson: boolean): number {
  const rows = existsSync(directory) ? inspectDirectory(directory) : [];
  printListing(
    {
      rows,
      columns: certificateColumns,
      json: certificateJson,
      none: `no certificates in ${resolve(directory)}; kaon certs init makes an authority, --dir says where`,
      unreadable: [],
    },
    { json: isJson, wide: false },
  );
  for (const { path, faults, warnings } of rows) {
    for (const text of [...faults, ...warnings]) process.stderr.write(`kaon: ${path}: ${text}\n`);
  }
  return rows.some(({ faults }) => faults.length > 0) ? EXIT_FAILED : EXIT_OK;
}

function certificateColumns(paint: Paint): Column<Inspected>[] {
  return [
    { title: 'NAME', text: ({ name }) => name },
    { title: 'FOR', text: ({ uses }) => uses.join(', ') || '-' },
    { title: 'NAMES', text: ({ facts }) => namesOf(facts.names), shrinksTo: 12 },
    { title: 'SIGNED BY', text: signerOf, shrinksTo: 12 },
    { title: 'ENDS', text: ({ facts }) => formatUtc(facts.untilMs) },
    { title: 'DAYS', text: ({ daysLeft: days }) => String(days), align: 'right' },
    {
      title: 'STATE',
      text: stateOf,
      paint: (text, row) => paint(lookOf(row), text),
    },
  ];
}

/** `DNS:a, IP Address:10.0.0.5` as `a, 10.0.0.5`. */
function namesOf(names: string): string {
  return names.replace(/(?:DNS|IP Address):/g, '') || '-';
}

function signerOf({ signedBy, facts }: Inspected): string {
  return signedBy ?? `${facts.issuer} (another)`;
}

function stateOf({ faults, warnings }: Inspected): string {
  if (faults.length > 0) return 'unusable';
  return warnings.length > 0 ? 'ends soon' : 'good';
}

function lookOf({ faults, warnings }: Inspected): Look {
  if (faults.length > 0) return 'red';
  return warnings.length > 0 ? 'yellow' : 'green';
}

function certificateJson({ facts, ...rest }: Inspected): object {
  return { ...rest, ...facts };
}

/** What `kaon certs check` looks at. */
export interface CheckOptions {
  readonly caPath?: string;
  /** One that ends sooner is not good enough. */
  readonly days: number;
  readonly json: boolean;
}

/** `kaon certs check FILE`. @returns the exit code: 1 if it cannot be used, or not long enough */
export function certsCheck(path: string, { caPath, days, json }: CheckOptions): number {
  if (caPath !== undefined && !inspect(caPath)) throw notACertificate(caPath);
  const found = inspect(path, caPath);
  if (!found) throw notACertificate(path);
  const isShort = found.faults.length === 0 && found.daysLeft < days;
  const faults = isShort
    ? [...found.faults, `it ends within ${String(days)} days, at ${formatUtc(found.facts.untilMs)}`]
    : found.faults;
  if (json) printJson(certificateJson({ ...found, faults }));
  else say(describeInspected({ ...found, faults }));
  return faults.length > 0 ? EXIT_FAILED : EXIT_OK;
}

function notACertificate(path: string): KaonError {
  const is = existsSync(path)
    ? 'is not a certificate in PEM that this user may read'
    : 'is not there';
  return new KaonError('not-found', `${path} ${is}`, {
    hint: 'a certificate begins with -----BEGIN CERTIFICATE-----; kaon certs ls lists them',
  });
}

function describeInspected(found: Inspected): string[] {
  const { facts, uses, faults, warnings, signedBy } = found;
  const signer = signedBy === undefined ? '' : ', checked';
  return [
    `subject    ${facts.subject}`,
    `signed by  ${facts.issuer}${signer}`,
    `for        ${uses.join(', ') || 'nothing that is said'}`,
    `names      ${namesOf(facts.names)}`,
    `valid      ${formatUtc(facts.fromMs)} to ${formatUtc(facts.untilMs)}, ${String(found.daysLeft)} days more`,
    ...[...faults, ...warnings].map((text) => `note       ${text}`),
    `verdict    ${faults.length > 0 ? 'not usable' : 'good'}`,
  ];
}

function say(lines: readonly string[]): void {
  process.stdout.write(lines.map((line) => `${line}\n`).join(''));
}
