/** The commands about tokens of a secured cluster; see `definitions.ts`. */
import type { Option } from 'commander';
import type { Definition } from './definition.ts';
import { flag, json, repeated } from './definition.ts';

const keyFile = (): Option =>
  flag('--cluster-key-file <file>', "the cluster's key (default: the credential cluster-key)");

const CREATE: Definition = {
  usage: 'create <name>',
  summary: 'make a token and print it, once',
  options: [
    flag('--kind <kind>', 'viewer, operator, framework, agent or admin'),
    repeated('--role <role>', "of a framework: a role that it may have, '*' any; may be repeated"),
    repeated('--user <user>', "of a framework: a user its tasks may name, '*' any but root"),
    flag('--agent <id>', 'of an agent: its id'),
    flag('--expires <duration>', 'no longer than: 12h, 90d (default: for ever)'),
    keyFile(),
  ],
  action: async (raw, connection, [name = '']) => {
    const { parseCreateTokenOptions } = await import('./token-options.ts');
    const options = parseCreateTokenOptions(raw, connection, name);
    const { createToken } = await import('./commands/token.ts');
    return createToken(options);
  },
};

const LIST: Definition = {
  usage: 'ls',
  summary: 'the tokens: for whom, for what, until when',
  options: [json(), keyFile()],
  action: async (raw, connection) => {
    const { parseTokenOptions } = await import('./token-options.ts');
    const { listTokens } = await import('./commands/token.ts');
    return listTokens(parseTokenOptions(raw, connection), raw['json'] === true);
  },
};

const REVOKE: Definition = {
  usage: 'revoke <name>',
  summary: 'end a token: refused within a second, its tasks go on',
  options: [keyFile()],
  action: async (raw, connection, [name = '']) => {
    const { parseTokenOptions, tokenNameOf } = await import('./token-options.ts');
    const { revokeToken } = await import('./commands/token.ts');
    return revokeToken(parseTokenOptions(raw, connection), tokenNameOf(name));
  },
};

const ROTATE: Definition = {
  usage: 'rotate <name>',
  summary: 'print a new token of that name; the old one ends',
  options: [keyFile()],
  action: async (raw, connection, [name = '']) => {
    const { parseTokenOptions, tokenNameOf } = await import('./token-options.ts');
    const { rotateToken } = await import('./commands/token.ts');
    return rotateToken(parseTokenOptions(raw, connection), tokenNameOf(name));
  },
};

const NEW_KEY: Definition = {
  usage: 'new-key',
  summary: 'print a key for a new cluster, from which its tokens are made',
  options: [],
  action: async () => {
    const { newClusterKey } = await import('./commands/token.ts');
    return newClusterKey();
  },
};

/** `kaon token`. */
export const TOKEN: Definition = {
  usage: 'token',
  summary: 'who may do what in a secured cluster: create, ls, revoke, rotate',
  options: [],
  commands: [CREATE, LIST, REVOKE, ROTATE, NEW_KEY],
  action: async () => {
    const { usageError } = await import('./failure.ts');
    throw usageError(
      'kaon token needs to know what to do: create NAME, ls, revoke NAME, rotate NAME or new-key',
    );
  },
};

/** `kaon whoami`. */
export const WHOAMI: Definition = {
  usage: 'whoami',
  summary: 'whose token this is, and what it is good for',
  options: [json()],
  action: async (raw, connection) => {
    const { whoami } = await import('./commands/token.ts');
    return whoami(connection, raw['json'] === true);
  },
};
