/** Everything that was said during a campaign, by whom and when, on one clock: faults, daemons, frameworks. */
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';

export interface Line {
  readonly atMs: number;
  readonly source: string;
  readonly text: string;
}

interface Followed {
  readonly source: string;
  readonly path: string;
  offset: number;
  rest: string;
}

export class Chronicle {
  readonly #startedAtMs = Date.now();
  readonly #lines: Line[] = [];
  readonly #followed: Followed[] = [];
  readonly #listeners: ((line: Line) => void)[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor() {
    this.#timer = setInterval(() => this.read(), 100);
  }

  onLine(listener: (line: Line) => void): void {
    this.#listeners.push(listener);
  }

  /** For the log alone. */
  note(source: string, text: string): void {
    const line = { atMs: Date.now(), source, text };
    this.#lines.push(line);
    for (const listener of this.#listeners) listener(line);
  }

  /** For the log and the person. */
  say(text: string): void {
    this.note('chaos', text);
    const seconds = (Date.now() - this.#startedAtMs) / 1000;
    process.stdout.write(`${`+${seconds.toFixed(1)}s`.padStart(8)}  ${text}\n`);
  }

  /** Lines of a file as it grows, stamped with our clock: that of a daemon may be stepped. */
  follow(source: string, path: string): void {
    this.#followed.push({ source, path, offset: 0, rest: '' });
  }

  read(): void {
    for (const file of this.#followed) {
      const lines = (file.rest + readFrom(file)).split('\n');
      file.rest = lines.pop() ?? '';
      for (const text of lines) this.note(file.source, text);
    }
  }

  last(count: number): string[] {
    return this.#lines.slice(-count).map(format);
  }

  /** What was written down elsewhere, in its place by time. */
  merge(lines: readonly Line[]): void {
    this.#lines.push(...lines);
    this.#lines.sort((a, b) => a.atMs - b.atMs);
  }

  /** Lines that mention an id, oldest first. */
  about(id: string): string[] {
    const mentions = new RegExp(`(^|[^\\w.])${id.replaceAll('.', '\\.')}(?![\\w.])`);
    return this.#lines.filter((line) => mentions.test(line.text)).map(format);
  }

  write(path: string): void {
    writeFileSync(path, this.#lines.map((line) => `${format(line)}\n`).join(''));
  }

  close(): void {
    clearInterval(this.#timer);
    this.read();
  }
}

function format({ atMs, source, text }: Line): string {
  return `${new Date(atMs).toISOString().slice(11, 23)} ${source.padEnd(11)} ${text}`;
}

function readFrom(file: Followed): string {
  let fd: number;
  try {
    fd = openSync(file.path, 'r');
  } catch {
    return ''; // Its daemon has not said anything yet.
  }
  try {
    const parts: Buffer[] = [];
    for (;;) {
      const buffer = Buffer.alloc(65_536);
      const bytes = readSync(fd, buffer, 0, buffer.length, file.offset);
      if (bytes === 0) return Buffer.concat(parts).toString();
      file.offset += bytes;
      parts.push(buffer.subarray(0, bytes));
    }
  } finally {
    closeSync(fd);
  }
}
