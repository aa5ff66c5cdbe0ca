/** What the helper does for each artifact: opens it, checks it, and has it placed or extracted. */
import { createHash } from 'node:crypto';
import { closeSync, constants, createReadStream, fchmodSync, fstatSync, openSync } from 'node:fs';
import { extractArchive } from './archive.ts';
import { describeFailure, refused, refuseOtherDigest } from './failure.ts';
import { type Budget, Placing, writeAll } from './placing.ts';
import type { HelperAnswer, HelperArtifact, HelperRequest } from './request.ts';

/** Read at a time, bytes. */
const CHUNK_BYTES = 1024 * 1024;

/**
 * @returns what came of it; the temporary file is gone then
 * @throws the operating system's error if even that cannot be removed
 */
export async function putArtifacts(request: HelperRequest): Promise<HelperAnswer> {
  const { work, temporary, writeMaxBytes, entriesMax, artifacts } = request;
  const budget: Budget = { bytesLeft: writeMaxBytes, entriesLeft: entriesMax };
  let placing: Placing | undefined;
  let artifact: number | undefined;
  try {
    placing = new Placing(work, temporary, budget);
    for (artifact = 0; artifact < artifacts.length; artifact += 1) {
      await put(artifact, artifacts[artifact] as HelperArtifact, { placing, writeMaxBytes });
    }
    return { ok: true };
  } catch (error) {
    const message = describeFailure(error);
    return artifact === undefined ? { ok: false, message } : { ok: false, artifact, message };
  } finally {
    placing?.removeTemporary();
    placing?.close();
  }
}

interface Surroundings {
  readonly placing: Placing;
  readonly writeMaxBytes: number;
}

async function put(index: number, artifact: HelperArtifact, around: Surroundings): Promise<void> {
  const { source, action } = artifact;
  const file = 'fd' in source ? source.fd : openRegular(source.path);
  try {
    if (action === 'file') await putFile(index, artifact, file, around);
    else await extract(index, artifact, file, around);
  } finally {
    closeSync(file);
  }
}

/** A named pipe would block, and a device has no end. */
function openRegular(path: string): number {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  if (fstatSync(file).isFile()) return file;
  closeSync(file);
  throw refused('it is not a regular file');
}

async function putFile(
  index: number,
  artifact: HelperArtifact,
  file: number,
  { placing }: Surroundings,
): Promise<void> {
  const copy = placing.openTemporary();
  try {
    await copyChecked({ from: file, to: copy, sha256: artifact.sha256, placing });
    fchmodSync(copy, artifact.mode);
  } finally {
    closeSync(copy);
  }
  placing.moveTemporary(artifact.target, index);
}

/** A file that is to be checked may change after that: then a copy without a name is checked and extracted. */
async function extract(
  index: number,
  { target, sha256 }: HelperArtifact,
  file: number,
  { placing, writeMaxBytes }: Surroundings,
): Promise<void> {
  const into = placing.extraction(target, index);
  if (sha256 === undefined) {
    await extractArchive(file, writeMaxBytes, into);
    return;
  }
  const copy = placing.openTemporary();
  try {
    placing.removeTemporary();
    await copyChecked({ from: file, to: copy, sha256, placing });
    await extractArchive(copy, writeMaxBytes, into);
  } finally {
    closeSync(copy);
  }
}

async function copyChecked(options: {
  readonly from: number;
  readonly to: number;
  readonly sha256: string | undefined;
  readonly placing: Placing;
}): Promise<void> {
  const { from, to, sha256, placing } = options;
  const hash = createHash('sha256');
  const input = createReadStream('', {
    fd: from,
    start: 0,
    autoClose: false,
    highWaterMark: CHUNK_BYTES,
  });
  for await (const chunk of input as AsyncIterable<Buffer>) {
    placing.takeBytes(chunk.length);
    if (sha256 !== undefined) hash.update(chunk);
    writeAll(to, chunk);
  }
  if (sha256 !== undefined) refuseOtherDigest(hash.digest('hex'), sha256);
}
