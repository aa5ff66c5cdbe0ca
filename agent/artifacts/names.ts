/**
 * Which names may be written below a directory, decided by their text alone. Together with `tree.ts`, which follows no
 * symbolic link, this keeps an archive inside of its directory.
 */
import { NAME_MAX_BYTES, PATH_MAX_BYTES } from './limits.ts';
import { refused } from './failure.ts';

/**
 * Takes a name apart.
 *
 * @returns its parts; none of them is empty, `.` or `..`. No parts at all: the directory itself
 * @throws KaonError `artifact-refused` if it is absolute, leads upwards, or is none
 */
export function splitName(name: string): string[] {
  if (name.includes('\0')) throw refused('its name has a NUL character');
  if (name.startsWith('/')) throw refused('its name is absolute');
  if (Buffer.byteLength(name) > NAME_MAX_BYTES) throw refused('its name is too long');
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw refused('its name leads out of the directory');
  return parts;
}

/**
 * Checks where a symbolic link leads. `..` is allowed at the beginning only, and no more of them than the link is deep:
 * then a link cannot lead out, and neither can a way over several links, in whatever order they are made. `a/../../b`
 * could, if `a` became a link itself.
 *
 * @param parts name of the link, below the directory
 * @throws KaonError `artifact-refused` if it leads out of the directory or could
 */
export function checkLinkTarget(parts: readonly string[], target: string): void {
  if (target === '' || target.includes('\0')) throw refused('it is a symbolic link to nothing');
  const words = `it is a symbolic link to ${JSON.stringify(target)}`;
  if (target.startsWith('/')) throw refused(`${words}, an absolute path`);
  if (Buffer.byteLength(target) > PATH_MAX_BYTES) throw refused(`${words}, a path too long`);
  const steps = target.split('/').filter((step) => step !== '' && step !== '.');
  const firstDown = steps.findIndex((step) => step !== '..');
  const upwards = firstDown === -1 ? steps.length : firstDown;
  if (upwards > parts.length - 1) throw refused(`${words}, which is outside of the directory`);
  if (steps.slice(upwards).includes('..')) {
    throw refused(`${words}; .. is allowed at the beginning only`);
  }
}
