/**
 * Entries of the journal with fields, so that `journalctl KAON_TASK_ID=t1` finds what a daemon says of a task. The native
 * protocol of journald is one datagram an entry. Node cannot make such a socket, but it can write to one that it was started
 * with: `systemd/with-journal` connects it, and names it in `KAON_JOURNAL_FD`.
 */
import { fstatSync, writeSync } from 'node:fs';
import { codeOf } from '../protocol/errors.ts';

/** Fields of an entry, in their order. */
export type EntryFields = readonly (readonly [name: string, value: string])[];
/** Writes one entry. @returns false if the journal does not take it: then it has to be said another way */
export type WriteEntry = (fields: EntryFields) => boolean;

/** A journal that does not keep up. */
const FULL = ['EAGAIN', 'ENOBUFS'];
/** Names of fields end here: journald(8) drops longer ones. */
const NAME_CHARS_MAX = 64;

/**
 * Takes the descriptor out of the environment; it is this process's alone.
 *
 * @returns absent if there is none, or if it is no socket: then the number is that of something else
 */
export function takeJournal(
  environment: Record<string, string | undefined>,
): WriteEntry | undefined {
  const { KAON_JOURNAL_FD: text = '' } = environment;
  Reflect.deleteProperty(environment, 'KAON_JOURNAL_FD');
  const fd = /^\d{1,4}$/.test(text) ? Number(text) : -1;
  if (fd < 3 || !isSocket(fd)) return undefined;
  return entryWriter((bytes) => {
    writeSync(fd, bytes);
  });
}

/**
 * Entries by datagrams. Of a journal that does not keep up they are left out and counted: to write them to standard error
 * would not help, as that is read by the same journal, and the daemon would hang with it.
 *
 * @param write throws an error of the system
 */
export function entryWriter(write: (bytes: Buffer) => void): WriteEntry {
  let lost = 0;
  return (fields) => {
    try {
      write(encodeEntry(fields));
    } catch (error) {
      if (!FULL.includes(codeOf(error) ?? '')) return false; // It is away, or the entry is too large.
      lost += 1;
      return true;
    }
    if (lost > 0) lost = tellLost(write, { lost, fields });
    return true;
  };
}

/** @returns how many are still to be told */
function tellLost(
  write: (bytes: Buffer) => void,
  { lost, fields }: { readonly lost: number; readonly fields: EntryFields },
): number {
  const identifier = fields.filter(([name]) => name === 'SYSLOG_IDENTIFIER');
  const event = 'journal.entries-lost';
  try {
    write(
      encodeEntry([
        ['MESSAGE', `${event} count=${String(lost)}`],
        ...([['PRIORITY', '4'], ...identifier] as const),
        ['KAON_EVENT', event],
      ]),
    );
    return 0;
  } catch {
    return lost; // Full again: with the next one.
  }
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false; // It is closed.
  }
}

/**
 * One entry: `NAME=value`, or for a value of several lines the name, its length in 64 bits and the value.
 *
 * @see https://systemd.io/JOURNAL_NATIVE_PROTOCOL
 */
export function encodeEntry(fields: EntryFields): Buffer {
  return Buffer.concat(
    fields.flatMap(([name, value]) => {
      if (!value.includes('\n')) return [Buffer.from(`${name}=${value}\n`)];
      const bytes = Buffer.from(value);
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(bytes.length));
      return [Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')];
    }),
  );
}

/** @returns the name of a field in the journal: `KAON_TASK_ID` for `taskId` */
export function fieldName(key: string): string {
  const words = key.replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
  return `KAON_${words.replaceAll(/[^A-Z0-9_]/g, '_')}`.slice(0, NAME_CHARS_MAX);
}
