/**
 * Logging of the daemons: one line an event, `name key=value ...`, to standard error, or as an entry with fields to the
 * journal. A stable event name, ids, numbers with units; never a secret, never a task's environment.
 */
import { fieldName } from './journal.ts';
import type { WriteEntry } from './journal.ts';

/** From the least severe to the most. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
/**
 * Ids, reasons and numbers of an event, in the order in which they are written; undefined ones are left out.
 */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Where a shell says what happened. The first word is a stable name (`offer.rescinded`), never a sentence.
 */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

const SEVERITY: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, warn: 4, error: 3 };

/** The log of a daemon, whose level changes with its settings. */
export interface DaemonLog extends Log {
  /** Least severe level that is written from now on. */
  setLevel(level: LogLevel): void;
  /** Fields that each entry of the journal has from now on, beside its own: whose log it is. */
  identify(fields: LogFields): void;
}

/** How much is written, how, and where to. */
export interface LogOptions {
  /** Least severe level that is written. Default `info`. */
  readonly level?: LogLevel;
  /** Prefix `<N>` that journald reads as the priority. Default: whether systemd gave us the journal. */
  readonly journal?: boolean;
  readonly write?: (line: string) => void;
  /** Takes entries with fields; what it does not take is written as a line. Default: there is no such thing. */
  readonly writeEntry?: WriteEntry | undefined;
  /** Name of the daemon in the journal, as its lines have it: `kaon-master`. */
  readonly identifier?: string;
}

/** @returns a log that writes `2026-11-20T18:53:12.001Z info agent.registered agentId=a1 cpus=2` */
export function createLog(options: LogOptions = {}): DaemonLog {
  const { journal = false, writeEntry, identifier = 'kaon' } = options;
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  let threshold = SEVERITY[options.level ?? 'info'];
  let identity: LogFields = {};
  const at =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}) => {
      const severity = SEVERITY[level];
      if (severity > threshold) return;
      const message = `${event}${formatFields(fields)}`;
      const head = [
        ['MESSAGE', message],
        ['PRIORITY', String(severity)],
        ['SYSLOG_IDENTIFIER', identifier],
        ['KAON_EVENT', event],
      ] as const;
      if (writeEntry?.([...head, ...entryFields({ ...identity, ...fields })]) === true) return;
      const prefix = journal
        ? `<${String(severity)}>`
        : `${new Date().toISOString()} ${level.padEnd(5)} `;
      write(`${prefix}${message}\n`);
    };
  return {
    ...{ debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
    setLevel: (level) => {
      threshold = SEVERITY[level];
    },
    identify: (fields) => {
      identity = fields;
    },
  };
}

/** Says nothing: the log of libraries and tests. */
export const silentLog: Log = createLog({ write: () => undefined });

/** A field that would be taken for the event's name is in the message alone. */
function entryFields(fields: LogFields): [string, string][] {
  return Object.entries(fields)
    .filter(([key, value]) => value !== undefined && value !== null && key !== 'event')
    .map(([key, value]) => [fieldName(key), textOf(value)]);
}

function formatFields(fields: LogFields): string {
  let text = '';
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined) text += ` ${key}=${formatValue(value)}`;
  }
  return text;
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return value instanceof Error ? value.message : (JSON.stringify(value) ?? String(value));
}

function formatValue(value: unknown): string {
  const text = textOf(value);
  // Control characters in a field would let a task's name write log lines of its own.
  return /^[^\s"=\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text);
}
