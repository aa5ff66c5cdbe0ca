/** The secrets that secure a cluster, from where a process finds them: a client's token, and on a master's host the cluster's key. */
import { readFileSync } from 'node:fs';
import { KaonError, messageOf } from '../protocol/errors.ts';
import { readCredential } from './credentials.ts';
import type { Token } from './tokens.ts';
import { parseClusterKey, parseToken } from './tokens.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The token of this process: what was given, else the credential `token`, else the file that `KAON_TOKEN_FILE` names, else
 * `KAON_TOKEN`.
 *
 * @returns undefined if there is none: then this is a client of an open cluster
 * @throws KaonError `token-malformed`; `credential` if a file cannot be read. The token is in no message
 */
export function findToken(
  given?: string,
  environment: Environment = process.env,
): Token | undefined {
  const stated = given ?? readCredential('token', environment) ?? environment['KAON_TOKEN'] ?? '';
  if (stated.trim() === '') return undefined;
  const token = parseToken(stated);
  if (token) return token;
  throw new KaonError(
    'token-malformed',
    `what was given as a token is none: it has ${String(stated.trim().length)} characters, and a token begins with kaon1_`,
    { hint: 'was it copied whole? kaon token rotate NAME prints a new one' },
  );
}

/**
 * The cluster's key: of the file, else the credential `cluster-key`, else the file that `KAON_CLUSTER_KEY_FILE` names.
 *
 * @returns undefined if there is none: the cluster is open
 * @throws KaonError `cluster-key` if it is no key; `credential` if it cannot be read. The key is in no message
 */
export function findClusterKey(
  path?: string,
  environment: Environment = process.env,
): Buffer | undefined {
  const text = path === undefined ? readCredential('cluster-key', environment) : readKey(path);
  if (text === undefined) return undefined;
  const key = parseClusterKey(text);
  if (key) return key;
  throw new KaonError('cluster-key', 'the cluster key is not 32 bytes as hexadecimal or base64', {
    hint: 'kaon token new-key prints one',
  });
}

function readKey(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new KaonError('cluster-key', `the cluster key cannot be read: ${messageOf(cause)}`, {
      cause,
      hint: "it is readable by root, on a master's host",
    });
  }
}
