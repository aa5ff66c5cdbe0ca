/**
 * Logging of the daemons: one line an event, `name key=value ...`, to standard error.
 * A stable event name, ids, numbers with units; never a secret, never a task's environment.
 */
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

/** How much is written, how, and where to. */
export interface LogOptions {
  /** Least severe level that is written. Default `info`. */
  readonly level?: LogLevel;
  /** Prefix `<N>` that journald reads as the priority. Default: whether systemd gave us the journal. */
  readonly journal?: boolean;
  readonly write?: (line: string) => void;
}

/** @returns a log that writes `2026-11-20T18:53:12.001Z info agent.registered agentId=a1 cpus=2` */
export function createLog(options: LogOptions = {}): Log {
  const threshold = SEVERITY[options.level ?? 'info'];
  const journal = options.journal ?? false;
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const at =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}) => {
      if (SEVERITY[level] > threshold) return;
      const prefix = journal
        ? `<${String(SEVERITY[level])}>`
        : `${new Date().toISOString()} ${level.padEnd(5)} `;
      write(`${prefix}${event}${formatFields(fields)}\n`);
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** Says nothing: the log of libraries and tests. */
export const silentLog: Log = createLog({ write: () => undefined });

function formatFields(fields: LogFields): string {
  let text = '';
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined) text += ` ${key}=${formatValue(value)}`;
  }
  return text;
}

function formatValue(value: unknown): string {
  const text =
    typeof value === 'string'
      ? value
      : value instanceof Error
        ? value.message
        : (JSON.stringify(value) ?? String(value));
  // Control characters in a field would let a task's name write log lines of its own.
  return /^[^\s"=\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text);
}
