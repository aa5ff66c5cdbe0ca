/**
 * `kaon acl print` and `kaon acl file`: the rules of each role, for a Redis in which nobody may use ACL from afar. What
 * goes to standard output can be used as it is; new passwords are said beside it, and once.
 */
import type { AclSubject } from '../../io/acl.ts';
import { hashedPassword, newRedisPassword, redisUserOf } from '../../io/acl.ts';
import { aclCommand, aclFileLine } from '../../io/acl-users.ts';
import { EXIT_OK } from '../failure.ts';
import type { AclOptions } from '../join-options.ts';

/** @returns the exit code */
export function printAcl(
  { subjects, passwordHash }: AclOptions,
  form: 'commands' | 'file',
): Promise<number> {
  for (const subject of subjects) {
    const hash = passwordHash === undefined ? newHash(subject) : `#${passwordHash}`;
    const line = form === 'file' ? aclFileLine(subject, hash) : aclCommand(subject, hash);
    process.stdout.write(`${line}\n`);
  }
  return Promise.resolve(EXIT_OK);
}

function newHash(subject: AclSubject): string {
  const password = newRedisPassword();
  process.stderr.write(`password of ${redisUserOf(subject)}: ${password}\n`);
  return hashedPassword(password);
}
