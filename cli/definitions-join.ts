/** The commands about users of Redis and what nodes join with; see `definitions.ts`. */
import type { Option } from 'commander';
import type { Definition } from './definition.ts';
import { flag, json } from './definition.ts';

const role = (): Option =>
  flag('--role <role>', 'agent, framework, bullmq, viewer, operator or master');
const prefix = (): Option => flag('--prefix <prefix>', 'of the keys of BullMQ', 'bull');

const CREATE: Definition = {
  usage: 'create',
  summary: 'a user of Redis for a node or a program, and a line to paste there',
  options: [
    role(),
    flag('--name <name>', 'id of the agent, name of the framework (default: a new one)'),
    flag('--node-redis <url>', 'address of Redis as it is seen there (default: --redis)'),
    prefix(),
    flag('--force', 'a name that exists gets a new password, the old one ends'),
    flag('--cluster-key <file>', 'of a secured cluster: the line has a token too'),
    json(),
  ],
  action: async (raw, connection) => {
    const { parseCreateOptions } = await import('./join-options.ts');
    const { createJoinToken } = await import('./commands/join-token.ts');
    return createJoinToken(parseCreateOptions(raw, connection));
  },
};

const REVOKE: Definition = {
  usage: 'revoke <name>',
  summary: 'take the user away, and with it all its connections',
  options: [role(), flag('--cluster-key <file>', 'of a secured cluster: its token ends too')],
  action: async (raw, connection, [name = '']) => {
    const { parseRevokeOptions } = await import('./join-options.ts');
    const { revokeJoinToken } = await import('./commands/join-token.ts');
    return revokeJoinToken(parseRevokeOptions(raw, connection, name));
  },
};

const LIST: Definition = {
  usage: 'ls',
  summary: 'whom there are users for, and who is connected',
  options: [json()],
  action: async (raw, connection) => {
    const { listJoinTokens } = await import('./commands/join-token.ts');
    return listJoinTokens(connection, raw['json'] === true);
  },
};

/** `kaon join-token`. */
export const JOIN_TOKEN: Definition = {
  usage: 'join-token',
  summary: 'what a node joins the cluster with: create, revoke, ls',
  options: [],
  commands: [CREATE, REVOKE, LIST],
  action: async () => {
    const { usageError } = await import('./failure.ts');
    throw usageError('kaon join-token needs to know what to do: create, revoke NAME or ls');
  },
};

const rules = (): Option[] => [
  role(),
  flag('--name <name>', 'id of the agent, name of the framework'),
  prefix(),
  flag('--password-hash <sha256>', 'of the password, 64 digits (default: a new password)'),
];

const PRINT: Definition = {
  usage: 'print',
  summary: 'as commands for redis-cli',
  options: rules(),
  action: async (raw, connection) => {
    const { parseAclOptions } = await import('./join-options.ts');
    const { printAcl } = await import('./commands/acl.ts');
    return printAcl(parseAclOptions(raw, connection), 'commands');
  },
};

const FILE: Definition = {
  usage: 'file',
  summary: 'as lines of an ACL file, or of redis.conf',
  options: rules(),
  action: async (raw, connection) => {
    const { parseAclOptions } = await import('./join-options.ts');
    const { printAcl } = await import('./commands/acl.ts');
    return printAcl(parseAclOptions(raw, connection), 'file');
  },
};

/** `kaon acl`. */
export const ACL: Definition = {
  usage: 'acl',
  summary: 'rules of Redis for each role: print or file',
  options: [],
  commands: [PRINT, FILE],
  action: async () => {
    const { usageError } = await import('./failure.ts');
    throw usageError('kaon acl needs to know in which form: print (commands) or file (lines)');
  },
};
