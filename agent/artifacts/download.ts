/** Gets the bytes of an http or https URI into a file: tried again where the reason may pass, and measured on the way. */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { Backoff } from '../../io/backoff.ts';
import { type Clock, systemRandom } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { codeOf, KaonError } from '../../protocol/errors.ts';
import { describeFailure, refused } from './failure.ts';
import { get, type HttpAnswer } from './http.ts';
import { type ArtifactLimits, ATTEMPTS_MAX } from './limits.ts';

/** Reasons that may pass: Node's and the resolver's codes, the watchdog's, and ours. */
const TRANSIENT = new Set([
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
  'TIMEOUT',
  'artifact-transient',
]);

/** What every download of a fetcher has in common. */
export interface DownloadSurroundings {
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: ArtifactLimits;
  readonly ca: string | undefined;
}

/** What tells whether a copy is still the same: only to be shown to the address that gave it, RFC 9110, 8.8 and 13.1. */
export interface Validators {
  readonly etag?: string | undefined;
  readonly lastModified?: string | undefined;
}

/** What to get. */
export interface Download {
  readonly url: URL;
  /** Its name in messages. */
  readonly label: string;
  readonly hasSha256: boolean;
  /** Of the copy that is there, for an address on the way. */
  readonly validatorsFor: (url: URL) => Validators | undefined;
  /** Gets the bytes; what it holds is overwritten. */
  readonly file: FileHandle;
}

/** What came of it. */
export type Downloaded =
  | { readonly isUnchanged: true }
  | {
      readonly isUnchanged: false;
      readonly bytes: number;
      readonly sha256: string;
      readonly url: URL;
      readonly validators: Validators;
    };

/**
 * @returns `isUnchanged` only if validators were given for the address that answered
 * @throws KaonError `artifact-refused`, or what Node says of the connection or the disk
 */
export async function download(
  wanted: Download,
  around: DownloadSurroundings,
  signal: AbortSignal,
): Promise<Downloaded> {
  const { clock, log } = around;
  const backoff = new Backoff(systemRandom);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await downloadOnce(wanted, around, signal);
    } catch (error) {
      if (signal.aborted || !TRANSIENT.has(codeOf(error) ?? '')) throw error;
      const words = describeFailure(error);
      if (attempt === ATTEMPTS_MAX) {
        throw refused(`${words} (tried ${String(ATTEMPTS_MAX)} times)`, error);
      }
      log.info('artifact.download-retried', { artifact: wanted.label, attempt, error: words });
      await clock.sleep(backoff.next(), signal);
    }
  }
}

async function downloadOnce(
  wanted: Download,
  around: DownloadSurroundings,
  signal: AbortSignal,
): Promise<Downloaded> {
  const { url, hasSha256, validatorsFor } = wanted;
  const { limits, ca } = around;
  const { connectTimeoutMs, idleTimeoutMs } = limits;
  const answer = await get(url, {
    connectTimeoutMs,
    idleTimeoutMs,
    ca,
    signal,
    headersFor: (step) => conditions(validatorsFor(step)),
    isDowngradeAllowed: hasSha256,
  });
  try {
    if (answer.status === 304 && validatorsFor(answer.url)) return { isUnchanged: true };
    if (answer.status !== 200) throw refusedStatus(answer.status);
    return await receive(answer, wanted.file, limits.downloadMaxBytes);
  } finally {
    answer.response.destroy();
  }
}

function conditions({ etag, lastModified }: Validators = {}): Record<string, string> {
  return {
    ...(etag !== undefined && { 'if-none-match': etag }),
    ...(lastModified !== undefined && { 'if-modified-since': lastModified }),
  };
}

/** What a server says of itself (5xx) may pass, what it says of the question does not. */
function refusedStatus(status: number): KaonError {
  const words = `status ${String(status)}`;
  return status >= 500 ? new KaonError('artifact-transient', words) : refused(words);
}

async function receive(
  { response, url, touch }: HttpAnswer,
  file: FileHandle,
  maxBytes: number,
): Promise<Downloaded> {
  const { 'content-length': length, etag, 'last-modified': lastModified } = response.headers;
  const announced = length === undefined ? undefined : Number(length);
  const tooLarge = refused(`it is larger than ${String(maxBytes)} bytes`);
  if (announced !== undefined && announced > maxBytes) throw tooLarge;
  const hash = createHash('sha256');
  let bytes = 0;
  await file.truncate(0);
  for await (const chunk of response as AsyncIterable<Buffer>) {
    touch();
    if (bytes + chunk.length > maxBytes) throw tooLarge;
    hash.update(chunk);
    await writeAll(file, chunk, bytes);
    bytes += chunk.length;
  }
  if (announced !== undefined && bytes !== announced) {
    const words = `${String(bytes)} bytes came instead of ${String(announced)}`;
    throw new KaonError('artifact-transient', words);
  }
  const sha256 = hash.digest('hex');
  return { isUnchanged: false, bytes, sha256, url, validators: { etag, lastModified } };
}

/** write(2) may take a part only. */
async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < chunk.length;) {
    const length = chunk.length - written;
    written += (await file.write(chunk, written, length, position + written)).bytesWritten;
  }
}
