/**
 * The journals of executors: one file each, `DIR/executors/LAUNCH`, to which a line is added for whatever has to be known of
 * its tasks when the agent begins anew. Tasks come and go by the thousand a second, so none has a file of its own; lines of
 * one turn are written together, before any message that follows from them leaves the process.
 */
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../io/log.ts';
import { messageOf } from '../protocol/errors.ts';
import type { AgentId, LaunchId } from '../protocol/ids.ts';
import type { JournalLine } from './core/events.ts';
import type { ExecutorEntry } from './core/state.ts';
import type { JournalHead, ReadJournal } from './executor-journal-text.ts';
import { JOURNAL_VERSION, readJournal, textOf, withoutOld } from './executor-journal-text.ts';
import { replaceFile } from './files.ts';

/** A file that has grown to so many bytes, and to twice what was left of it the last time, is written anew. */
const COMPACT_BYTES = 8 * 1024 * 1024;
/** What a full disk does not take is kept in memory, of all executors together so many characters. */
const WAITING_MAX_CHARS = 64 * 1024 * 1024;
const NEWLINE = 10;

interface OpenJournal {
  readonly path: string;
  /** Its first line. */
  readonly head: string;
  /** Absent: it has to be opened (again). */
  file?: number | undefined;
  /** Lines that have been added, and the rest of those that were being written when the disk was full. */
  added: string[];
  addedChars: number;
  unwritten: Buffer;
  bytes: number;
  /** Bytes after it was last written anew. */
  baseBytes: number;
}

/** Where the journals are, and whose. */
export interface ExecutorJournalsOptions {
  /** The agent's state directory; made if it is missing. */
  readonly directory: string;
  readonly agentId: AgentId;
  readonly log: Log;
  /** When a file is first written anew. Default 8 MiB. */
  readonly compactBytes?: number;
}

/** The journals of one agent. */
export class ExecutorJournals {
  readonly #directory: string;
  readonly #options: ExecutorJournalsOptions;
  readonly #open = new Map<LaunchId, OpenJournal>();
  readonly #dirty = new Set<OpenJournal>();
  readonly #failing = new Set<OpenJournal>();
  #waitingChars = 0;
  /** Lines are left out, because too many wait. */
  #isOverfull = false;

  constructor(options: ExecutorJournalsOptions) {
    this.#directory = join(options.directory, 'executors');
    this.#options = options;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
  }

  /** Adds a line; it is in the file after `flush`, unless the journal fails. */
  append(executor: ExecutorEntry, line: JournalLine): void {
    const journal = this.#journalOf(executor);
    const text = textOf(line);
    this.#dirty.add(journal);
    if (this.#waitingChars + text.length > WAITING_MAX_CHARS) this.flush();
    if (this.#waitingChars + text.length > WAITING_MAX_CHARS) {
      this.#leaveOut();
      return;
    }
    journal.added.push(text);
    journal.addedChars += text.length;
    this.#waitingChars += text.length;
  }

  /**
   * Writes what was added. A disk that is full stops no task: what it does not take is kept, and tried with the next
   * `flush`.
   */
  flush(): void {
    for (const journal of this.#dirty) {
      if (this.#write(journal)) this.#dirty.delete(journal);
    }
  }

  /**
   * True while lines wait that could not be written, of that launch of an executor or of any. False again when there are so
   * many that more are left out: waiting is of no use then.
   */
  isFailing(launchId?: LaunchId): boolean {
    if (this.#isOverfull) return false;
    if (launchId === undefined) return this.#failing.size > 0;
    const journal = this.#open.get(launchId);
    return journal !== undefined && this.#failing.has(journal);
  }

  /** Forgets an executor that is over. */
  remove({ launchId }: ExecutorEntry): void {
    const journal = this.#open.get(launchId);
    const path = this.#pathOf(launchId);
    try {
      if (journal) this.#close(journal);
      this.#open.delete(launchId);
      rmSync(path, { force: true });
    } catch (error) {
      // The next agent finds it, and has as little to tell of it as this one.
      this.#options.log.warn('journal.remove-failed', { path, error: messageOf(error) });
    }
  }

  /** All that can be read; a bad line is named in the log and left out, what is no journal at all is set aside. */
  readAll(): ReadJournal[] {
    return readdirSync(this.#directory)
      .sort()
      .flatMap((name) => {
        const path = join(this.#directory, name);
        if (name.endsWith('.tmp')) rmSync(path, { force: true });
        return /\.(tmp|bad)$/.test(name) ? [] : (this.#read(path) ?? []);
      });
  }

  close(): void {
    this.flush();
    for (const journal of this.#open.values()) this.#close(journal);
    this.#open.clear();
  }

  #close(journal: OpenJournal): void {
    this.#dirty.delete(journal);
    this.#failing.delete(journal);
    this.#waitingChars -= journal.addedChars;
    if (journal.file !== undefined) closeSync(journal.file);
  }

  #journalOf(executor: ExecutorEntry): OpenJournal {
    const known = this.#open.get(executor.launchId);
    if (known) return known;
    const journal: OpenJournal = {
      path: this.#pathOf(executor.launchId),
      head: JSON.stringify(this.#headOf(executor)),
      ...{ added: [], addedChars: 0, unwritten: Buffer.alloc(0) },
      ...{ bytes: 0, baseBytes: 0 },
    };
    this.#open.set(executor.launchId, journal);
    return journal;
  }

  #headOf({ framework, detached, info, launchId, unit }: ExecutorEntry): JournalHead {
    const { agentId } = this.#options;
    return { version: JOURNAL_VERSION, agentId, framework, detached, info, launchId, unit };
  }

  /** @returns false if something is left to be written */
  #write(journal: OpenJournal): boolean {
    const { path } = journal;
    const { log } = this.#options;
    try {
      const file = openJournal(journal);
      while (journal.unwritten.length > 0 || journal.added.length > 0) {
        if (journal.unwritten.length === 0) this.#takeAdded(journal);
        // A disk that is almost full takes a part.
        const written = writeSync(file, journal.unwritten);
        journal.unwritten = journal.unwritten.subarray(written);
        journal.bytes += written;
      }
    } catch (error) {
      const isNew = !this.#failing.has(journal);
      if (isNew) log.error('journal.failed', { path, error: messageOf(error) });
      this.#failing.add(journal);
      return false;
    }
    if (this.#waitingChars < WAITING_MAX_CHARS / 2) this.#isOverfull = false;
    if (this.#failing.delete(journal)) log.info('journal.written', { path });
    const { compactBytes = COMPACT_BYTES } = this.#options;
    if (journal.bytes > Math.max(compactBytes, journal.baseBytes * 2)) this.#compact(journal);
    return true;
  }

  #takeAdded(journal: OpenJournal): void {
    journal.unwritten = Buffer.from(`${journal.added.join('\n')}\n`);
    this.#waitingChars -= journal.addedChars;
    journal.added = [];
    journal.addedChars = 0;
  }

  #leaveOut(): void {
    const { log } = this.#options;
    if (!this.#isOverfull) log.error('journal.overfull', { action: 'lines are left out' });
    this.#isOverfull = true;
  }

  /** Drops what does not matter any more. */
  #compact(journal: OpenJournal): void {
    const { path } = journal;
    try {
      replaceFile(path, withoutOld(readFileSync(path, 'utf8')));
      // The old file has no name any more: lines must go into the new one.
      if (journal.file !== undefined) closeSync(journal.file);
      journal.file = undefined;
      openJournal(journal);
    } catch (error) {
      this.#options.log.warn('journal.compact-failed', { path, error: messageOf(error) });
      journal.baseBytes = journal.bytes;
    }
  }

  #read(path: string): ReadJournal | undefined {
    const { agentId, log } = this.#options;
    const read = readJournal(readFileSync(path, 'utf8'));
    const problem =
      'problem' in read
        ? read.problem
        : read.head.agentId !== agentId && `it is of agent ${read.head.agentId}`;
    if ('problem' in read || problem !== false) {
      log.error('journal.bad', { path, error: problem, keptAs: `${path}.bad` });
      renameSync(path, `${path}.bad`);
      return undefined;
    }
    const [error] = read.bad;
    if (error !== undefined)
      log.error('journal.bad-lines', { path, count: read.bad.length, error });
    return read;
  }

  #pathOf(launchId: LaunchId): string {
    return join(this.#directory, launchId);
  }
}

/** Opens it if it is not. A new one begins with its head, and one without an end of its last line with that. */
function openJournal(journal: OpenJournal): number {
  if (journal.file !== undefined) return journal.file;
  const file = openSync(journal.path, 'a+', 0o600);
  const bytes = fstatSync(file).size;
  Object.assign(journal, { file, bytes, baseBytes: bytes });
  if (bytes === 0) journal.unwritten = Buffer.from(`${journal.head}\n`);
  else if (!endsLine(file, bytes)) journal.unwritten = Buffer.from('\n');
  return file;
}

function endsLine(file: number, bytes: number): boolean {
  const last = Buffer.alloc(1);
  return readSync(file, last, 0, 1, bytes - 1) === 1 && last[0] === NEWLINE;
}
