/**
 * A fetcher with everything real: servers on loopback, the helper as a process (and as another user), archives made
 * entry by entry, so that they may be ones that no program would make.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import { build } from 'esbuild';
import { Header } from 'tar';
import { createFetcher, type Fetcher, type FetcherOptions } from '../../agent/artifacts/index.ts';
import { systemClock } from '../../io/clock.ts';
import { Uri } from '../../protocol/command.ts';
import { createWatchedLog } from './watch.ts';

/** Another user than the one who runs the tests. */
export const NOBODY = { uid: 65_534, gid: 65_534 };

/** Backing off costs no time. */
export const HASTY_CLOCK = {
  ...systemClock,
  sleep: (ms: number, signal?: AbortSignal): Promise<void> =>
    ms > 60_000 ? systemClock.sleep(ms, signal) : Promise.resolve(),
};

export function uriOf(uri: string, more: Partial<Uri> = {}): Uri {
  return Uri.parse({ uri, ...more });
}

export interface ArtifactBed {
  /** Of the agent: closed to others but for passing through. */
  readonly directory: string;
  /** Owned by nobody. */
  readonly work: string;
  readonly log: ReturnType<typeof createWatchedLog>;
  readonly helperArgv: readonly string[];
  /** A fetcher with other options; the one that `fetch` uses from now on. */
  use(options?: Partial<FetcherOptions>): Fetcher;
  /** Fetches into `work` as nobody. */
  fetch(...uris: Uri[]): Promise<void>;
  /** The message of a fetch that must fail. */
  failureOf(...uris: Uri[]): Promise<string>;
  /** Files that are left of unfinished downloads. */
  unfinished(): string[];
  /** Files below `directory` that this process has open. */
  open(): string[];
  close(): void;
}

/** Builds the helper once; each bed of a test file uses it. */
export async function buildHelper(): Promise<{ argv: string[]; remove: () => void }> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-helper-'));
  chmodSync(directory, 0o755);
  const outfile = join(directory, 'artifact-fetcher.mjs');
  const require =
    "import { createRequire as r } from 'node:module'; const require = r(import.meta.url);";
  await build({
    entryPoints: [join(import.meta.dirname, '../../agent/artifacts/main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    banner: { js: require },
  });
  return {
    argv: [process.execPath, outfile],
    remove: () => {
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export function createBed(helperArgv: readonly string[]): ArtifactBed {
  const root = mkdtempSync(join(tmpdir(), 'kaon-artifacts-'));
  chmodSync(root, 0o711);
  const directory = join(root, 'agent');
  mkdirSync(directory, { mode: 0o711 });
  const work = join(root, 'work');
  mkdirSync(work);
  chownSync(work, NOBODY.uid, NOBODY.gid);
  const log = createWatchedLog();
  let fetcher: Fetcher;
  const use = (options: Partial<FetcherOptions> = {}): Fetcher => {
    const base = { directory, log, clock: HASTY_CLOCK, cacheMaxBytes: 1_000_000, helperArgv };
    fetcher = createFetcher({ ...base, ...options });
    return fetcher;
  };
  use();
  const fetch = (...uris: Uri[]): Promise<void> =>
    fetcher.fetch(uris, { work, ids: NOBODY }, new AbortController().signal);
  return {
    directory,
    work,
    log,
    helperArgv,
    use,
    fetch,
    failureOf: async (...uris) => {
      try {
        await fetch(...uris);
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        if (code === 'artifact-failed') return message;
        throw error;
      }
      throw new Error('the fetch has succeeded');
    },
    unfinished: () => {
      const path = join(directory, 'artifacts/unfinished');
      return existsSync(path) ? readdirSync(path) : [];
    },
    open: () => openFiles().filter((path) => path.startsWith(directory)),
    close: () => {
      rmSync(root, { recursive: true, force: true });
    },
  };
}

function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // The one of the listing itself.
    }
  });
}

export interface TestServer {
  readonly origin: string;
  /** `METHOD path` of each request. */
  readonly requests: string[];
  /** Sockets that are open. */
  readonly connections: () => Promise<number>;
  close(): Promise<void>;
}

export async function startServer(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<TestServer> {
  const requests: string[] = [];
  const server: Server = createServer((request, response) => {
    requests.push(`${request.method ?? ''} ${request.url ?? ''}`);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`,
    requests,
    connections: () =>
      new Promise((resolve, reject) => {
        server.getConnections((error, count) => {
          if (error) reject(error);
          else resolve(count);
        });
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

/** A `data:` URI of those bytes. */
export function dataUri(bytes: Uint8Array): string {
  return `data:;base64,${Buffer.from(bytes).toString('base64')}`;
}

export interface TarEntry {
  readonly path: string;
  readonly type?: string;
  readonly mode?: number;
  readonly linkpath?: string;
  readonly content?: string | Uint8Array;
  /** Announced instead of the real one. */
  readonly size?: number;
}

/** A tar archive to the letter. */
export function tarOf(entries: readonly TarEntry[]): Buffer {
  const blocks = entries.flatMap(({ path, type = 'File', mode, linkpath, content = '', size }) => {
    const body = Buffer.from(content);
    const header = new Header({
      path,
      type: type as 'File',
      mode: mode ?? (type === 'Directory' ? 0o755 : 0o644),
      ...(linkpath !== undefined && { linkpath }),
      size: size ?? body.length,
      mtime: new Date(1_600_000_000_000),
      uid: 0,
      gid: 0,
    });
    const block = Buffer.alloc(512);
    header.encode(block);
    return [block, body, Buffer.alloc((512 - (body.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

export interface ZipEntry {
  readonly path: string;
  /** As of stat(2), with the type; undefined: an archive that knows no modes. */
  readonly mode?: number;
  readonly content?: string | Uint8Array;
  readonly isDeflated?: boolean;
  readonly isEncrypted?: boolean;
  readonly crc32?: number;
  readonly method?: number;
  readonly uncompressedSize?: number;
}

/** A zip archive to the letter, APPNOTE.TXT 4.3. */
export function zipOf(entries: readonly ZipEntry[]): Buffer {
  const locals: Buffer[] = [];
  const centrals: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const name = Buffer.from(entry.path);
    const content = Buffer.from(entry.content ?? '');
    const isDeflated = entry.isDeflated ?? false;
    const data = isDeflated ? deflateRawSync(content) : content;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x800 | (entry.isEncrypted === true ? 1 : 0), 2);
    common.writeUInt16LE(entry.method ?? (isDeflated ? 8 : 0), 4);
    common.writeUInt16LE(0x5021, 8); // 2020-01-01
    common.writeUInt32LE(entry.crc32 ?? crc32(content), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(entry.uncompressedSize ?? content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, name, data]);
    const made = Buffer.alloc(2);
    made.writeUInt16LE(entry.mode === undefined ? 20 : (3 << 8) | 20);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(((entry.mode ?? 0) << 16) >>> 0, 6);
    rest.writeUInt32LE(offset, 10);
    centrals.push(Buffer.from('PK\x01\x02', 'latin1'), made, common, rest, name);
    locals.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(centrals);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, central, end]);
}

/** Bit by bit, to be another one than the one that is tested. */
export function crc32(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}
