/**
 * What systemd reads back as it was told. A transient unit lives in a file that systemd writes and, on `daemon-reload` and
 * `daemon-reexec`, reads again, also for a unit that has not begun; not all that it writes does it read back alike.
 * Tried character by character on systemd 252; what is said here is on the safe side of that. Pure.
 *
 * Safe as they are: values of the environment (escaped as in C, up to four times as long), user names, ids. A journal
 * field must have no blank. Paths of output files and of the sandbox: no control characters.
 */

/** systemd reads no line of a unit file over 1 MiB, and a byte may take four in it: so much text is far from that. */
export const SAFE_BYTES_MAX = 64 * 1024;

/**
 * An argument of `ExecStart=`. systemd 252 writes `$` as `\$` and `;` as `\;` and takes the backslashes for part of the
 * argument when it reads them; the other refused characters are escaped too, and right only as long as both sides agree.
 */
export function isSafeArgument(argument: string): boolean {
  return !/[\p{Cc}$;%'"\\]/u.test(argument);
}

/** The program of `ExecStart=`: quotes, dollars and control characters make the whole line invalid, and so the unit. */
export function isSafeProgram(program: string): boolean {
  return /^\/?\.?\w[\w.+=,:@-]*(\/\.?\w[\w.+=,:@-]*)*$/.test(program);
}

/**
 * `WorkingDirectory=`, which systemd writes without any escape: what follows a line break would be a line of the unit, with
 * the rights of process 1, and blanks or a backslash at the end go or join the next line to it.
 */
export function isSafeDirectory(path: string): boolean {
  return /^\/[\w.+=,:@~/-]*$/.test(path);
}

/** A directory that the paths of a unit's files are made of: below it they are arguments and directories. */
export function isSafeRoot(path: string): boolean {
  return isSafeArgument(path) && !path.split('/').includes('..');
}

/** `Description=` without what would end its line; it is for people. */
export function safeDescription(text: string): string {
  return text.replaceAll(/[\p{Cc}\\]+/gu, ' ').trim();
}
