/** The commands about certificates; see `definitions.ts`. */
import type { Option } from 'commander';
import type { Definition } from './definition.ts';
import { flag, json, repeated } from './definition.ts';

const directory = (): Option =>
  flag('--dir <directory>', 'where the certificates are (default: kaon-certs)');
const force = (): Option => flag('--force', 'replace what is there');

const INIT: Definition = {
  usage: 'init',
  summary: 'make an authority',
  isLocal: true,
  options: [directory(), flag('--days <count>', 'how long it is valid (default: 3650)'), force()],
  action: async (raw) => {
    const { parseInitOptions } = await import('./certs/options.ts');
    const { certsInit } = await import('./commands/certs.ts');
    return certsInit(parseInitOptions(raw));
  },
};

const ISSUE: Definition = {
  usage: 'issue <name>',
  summary: 'make a certificate, signed by the authority',
  isLocal: true,
  options: [
    repeated('--host <name,...>', 'by which a server is reached (default: NAME)'),
    repeated('--ip <address,...>', 'likewise'),
    flag('--server', 'for a server only (default: for both)'),
    flag('--client', 'for a client only'),
    flag('--days <count>', 'how long it is valid (default: 365)'),
    directory(),
    force(),
  ],
  action: async (raw, _connection, [name = '']) => {
    const { parseIssueOptions } = await import('./certs/options.ts');
    const { certsIssue } = await import('./commands/certs.ts');
    return certsIssue(parseIssueOptions(raw, name));
  },
};

const LIST: Definition = {
  usage: 'ls',
  summary: 'what there is, who has signed it, when it ends',
  isLocal: true,
  options: [directory(), json()],
  action: async (raw) => {
    const { directoryOf } = await import('./certs/options.ts');
    const { certsList } = await import('./commands/certs.ts');
    return certsList(directoryOf(raw), raw['json'] === true);
  },
};

const CHECK: Definition = {
  usage: 'check <file>',
  summary: 'look into a certificate: is it good, and how long',
  isLocal: true,
  options: [
    flag('--ca <file>', 'the authority that should have signed it (default: ca.crt beside it)'),
    flag('--days <count>', 'it has to be good for so long yet', '1'),
    json(),
  ],
  action: async (raw, _connection, [file = '']) => {
    const { countFlagOf } = await import('./flags.ts');
    const { text } = await import('./parse-options.ts');
    const { certsCheck } = await import('./commands/certs.ts');
    const caPath = text(raw, 'ca');
    return certsCheck(file, {
      days: countFlagOf({ flag: '--days', value: text(raw, 'days') ?? '1' }, 36_500),
      json: raw['json'] === true,
      ...(caPath !== undefined && { caPath }),
    });
  },
};

/** `kaon certs`, and what is under it. */
export const CERTS: Definition = {
  usage: 'certs',
  summary: 'certificates for TLS: certs init, issue, ls, check',
  isLocal: true,
  options: [],
  commands: [INIT, ISSUE, LIST, CHECK],
  action: async () => {
    const { usageError } = await import('./failure.ts');
    throw usageError('certs what? init, issue, ls or check', 'kaon certs --help says more');
  },
};
