/**
 * Secrets of a daemon or a command. They never come by argument or by the text of a variable that others can see: systemd
 * puts each into a file that only this service can read, or a variable names such a file.
 *
 * A unit has `LoadCredential=kaon:/etc/kaon/credentials/agent`: every file of that directory is there as
 * `$CREDENTIALS_DIRECTORY/kaon_NAME` (systemd.exec(5), LoadCredential=). Without systemd: a directory `KAON_CREDENTIALS` with a file
 * for each, or `KAON_TOKEN_FILE=PATH` and the like.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf, KaonError, messageOf } from '../protocol/errors.ts';

/** Names of the files; `cluster-key` is the master's alone. */
export type CredentialName = 'redis-password' | 'token' | 'cluster-key' | 'tls-key';

/** What systemd puts before the name of a file, as the units' `LoadCredential=kaon:...` has it. */
const PREFIX = 'kaon_';

type Environment = Readonly<Record<string, string | undefined>>;

/** systemd 252 keeps credentials from commands beside the main one, `ExecReload=` say, that run in a sandbox. */
const ABSENT = ['ENOENT', 'EACCES'];

/**
 * A secret, without the final newline that editors and `echo` put there.
 *
 * @param environment default: that of the process
 * @returns absent if nobody has given one: no credential of that name, and no variable
 * @throws KaonError `credential` if a variable names a file that cannot be read, or if what was given is empty
 */
export function readCredential(
  name: CredentialName,
  environment: Environment = process.env,
): string | undefined {
  const { CREDENTIALS_DIRECTORY: credentials = '', KAON_CREDENTIALS: directory = '' } = environment;
  const places = [
    ...(credentials === '' ? [] : [join(credentials, `${PREFIX}${name}`)]),
    ...(directory === '' ? [] : [join(directory, name)]),
  ];
  for (const path of places) {
    const given = read(name, path, { isOptional: true });
    if (given !== undefined) return given;
  }
  const path = environment[credentialVariable(name)] ?? '';
  return path === '' ? undefined : read(name, path, { isOptional: false });
}

/** @returns the variable that names the file of a secret: `KAON_CLUSTER_KEY_FILE` */
export function credentialVariable(name: CredentialName): string {
  return `KAON_${name.toUpperCase().replaceAll('-', '_')}_FILE`;
}

/**
 * Puts a password into an address of Redis. The address says for which user: `redis://kaon-agent@10.0.0.5:6379`; one that
 * has a password already keeps it.
 */
export function withPassword(url: string, password: string | undefined): string {
  const [, scheme = '', user, rest = ''] = /^([a-z+]+:\/\/)(?:([^/?]*)@)?(.*)$/s.exec(url) ?? [];
  if (password === undefined || scheme === '' || user?.includes(':') === true) return url;
  return `${scheme}${user ?? ''}:${encodeURIComponent(password)}@${rest}`;
}

function read(
  name: CredentialName,
  path: string,
  { isOptional }: { readonly isOptional: boolean },
): string | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if (isOptional && ABSENT.includes(codeOf(cause) ?? '')) return undefined;
    const message = `the ${name} in ${path} cannot be read: ${messageOf(cause)}`;
    throw new KaonError('credential', message, { cause });
  }
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') {
    throw new KaonError('credential', `the ${name} in ${path} is empty`, {
      hint: 'write the secret into it, or remove the file',
    });
  }
  return secret;
}
