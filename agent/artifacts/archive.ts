/** Which kind of archive a file is, by its first bytes: names may be anything, and the one of a redirect often is. */
import { readSync } from 'node:fs';
import { refused } from './failure.ts';
import type { Extraction } from './placing.ts';
import { extractTar } from './tar.ts';
import { extractZip } from './zip.ts';

const GZIP = [0x1f, 0x8b];
const ZIPS = [
  [0x50, 0x4b, 0x03, 0x04],
  [0x50, 0x4b, 0x05, 0x06],
];
const UNSUPPORTED = [
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68] },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { name: 'lzip', magic: [0x4c, 0x5a, 0x49, 0x50] },
  { name: 'compress', magic: [0x1f, 0x9d] },
  { name: '7z', magic: [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c] },
] as const;

/**
 * Extracts tar, gzipped tar and zip.
 *
 * @param file open for reading
 * @param maxBytes of a tar archive itself, decompressed
 * @throws KaonError `artifact-refused`
 */
export async function extractArchive(
  file: number,
  maxBytes: number,
  into: Extraction,
): Promise<void> {
  const first = Buffer.alloc(8);
  readSync(file, first, 0, first.length, 0);
  const begins = (magic: readonly number[]): boolean =>
    magic.every((byte, index) => first[index] === byte);
  const other = UNSUPPORTED.find(({ magic }) => begins(magic));
  if (other) throw refused(`it is compressed by ${other.name}: only .tar, .tar.gz and .zip can be`);
  if (ZIPS.some(begins)) await extractZip(file, into);
  else await extractTar({ file, isGzip: begins(GZIP), maxBytes }, into);
}
