/**
 * Reads zip archives by yauzl, which checks names and sizes; the checksums are checked here. Links and rights count if the
 * archive was made on Unix.
 */
import type { Readable } from 'node:stream';
import { type Entry, fromFdPromise, type ZipFile } from 'yauzl';
import { codeOf } from '../../protocol/errors.ts';
import { describeFailure, refused, shorten } from './failure.ts';
import { PATH_MAX_BYTES } from './limits.ts';
import type { Extraction } from './placing.ts';

/** APPNOTE.TXT 4.4.2: the upper byte of `version made by` of archives with Unix modes. */
const UNIX_HOSTS = new Set([3, 19]);
/** stat(2), the type in a mode. */
const TYPE_BITS = 0o170000;
const SYMBOLIC_LINK = 0o120000;
const DIRECTORY = 0o040000;
const REGULAR_FILE = 0o100000;

/**
 * @param file  open for reading, and stays open
 * @throws KaonError `artifact-refused` that names the entry, if there is one to blame
 */
export async function extractZip(file: number, into: Extraction): Promise<void> {
  const zip = await open(file);
  const entries = zip.eachEntry();
  for (;;) {
    const next = await blamed('it cannot be read', entries.next());
    if (next.done === true) return;
    const name = `entry ${JSON.stringify(shorten(next.value.fileName))}`;
    await blamed(name, extractEntry(zip, next.value, into));
  }
}

async function open(file: number): Promise<ZipFile> {
  return blamed('it cannot be read', fromFdPromise(file, { autoClose: false }));
}

async function blamed<T>(what: string, outcome: Promise<T>): Promise<T> {
  try {
    return await outcome;
  } catch (error) {
    throw refused(`${what}: ${describeFailure(error)}`, error);
  }
}

async function extractEntry(zip: ZipFile, entry: Entry, into: Extraction): Promise<void> {
  const { fileName: name } = entry;
  const mode = UNIX_HOSTS.has(entry.versionMadeBy >> 8) ? entry.externalFileAttributes >>> 16 : 0;
  const type = mode & TYPE_BITS;
  const permissions = mode === 0 ? undefined : mode & 0o7777;
  if (type !== 0 && type !== REGULAR_FILE && type !== DIRECTORY && type !== SYMBOLIC_LINK) {
    throw refused('devices and named pipes are not supported');
  }
  if (type === DIRECTORY || name.endsWith('/')) {
    into.directory(name, permissions);
    return;
  }
  refuseUnreadable(entry);
  const data = await zip.openReadStreamPromise(entry);
  if (type === SYMBOLIC_LINK) {
    into.symbolicLink(name, await readLink(data, entry));
    return;
  }
  const file = into.file(name, permissions);
  try {
    await readChecked(data, entry, file.write);
    file.finish(entry.getLastModDate({ timezone: 'UTC' }));
  } catch (error) {
    file.abandon();
    throw error;
  }
}

function refuseUnreadable(entry: Entry): void {
  if (entry.isEncrypted()) throw refused('it is encrypted');
  if (!entry.canDecodeFileData()) {
    throw refused(`compression method ${String(entry.compressionMethod)} is not supported`);
  }
}

async function readLink(data: Readable, entry: Entry): Promise<string> {
  if (entry.uncompressedSize > PATH_MAX_BYTES) throw refused('it is a symbolic link too long');
  const chunks: Uint8Array[] = [];
  await readChecked(data, entry, (chunk) => chunks.push(chunk));
  return Buffer.concat(chunks).toString();
}

/** @throws KaonError `artifact-refused` if the data is not what the archive says it is */
async function readChecked(
  data: Readable,
  entry: Entry,
  take: (chunk: Uint8Array) => unknown,
): Promise<void> {
  let sum = 0;
  try {
    for await (const chunk of data as AsyncIterable<Uint8Array>) {
      sum = addCrc32(sum, chunk);
      take(chunk);
    }
  } catch (error) {
    // zlib's words for damaged data are about zlib.
    if (codeOf(error)?.startsWith('Z_') === true) throw refused('its data is damaged', error);
    throw error;
  }
  if (sum !== entry.crc32) throw refused('its checksum is another one');
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  return sum;
});

/** CRC-32 of ISO 3309, as zip has it. `zlib.crc32` is not in every Node 20. */
function addCrc32(before: number, bytes: Uint8Array): number {
  let sum = ~before;
  for (const byte of bytes) sum = (sum >>> 8) ^ (CRC_TABLE[(sum ^ byte) & 0xff] ?? 0);
  return ~sum >>> 0;
}
