/**
 * Artifacts of a task or executor, put into its sandbox before the start. Two halves: the agent gets the bytes of http:, https:
 * and data: URIs into files of its own and checks them; a helper with the rights of the task's user reads paths of the
 * node and is the only one that touches the sandbox (`main.ts`). The agent opens no file that a task has named.
 */
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import type { Uri } from '../../protocol/command.ts';
import { KaonError, messageOf } from '../../protocol/errors.ts';
import { ArtifactCache } from './cache.ts';
import { download, type DownloadSurroundings } from './download.ts';
import { artifactCancelled, artifactFailed, refuseOtherDigest } from './failure.ts';
import { Gate } from './gate.ts';
import { builtHelperArgv, helperFd, type HelperOptions, runHelper } from './helper.ts';
import {
  ARTIFACT_LIMITS,
  type ArtifactLimits,
  DOWNLOADS_AT_ONCE,
  HELPERS_AT_ONCE,
} from './limits.ts';
import { planArtifacts, type PlannedArtifact } from './plan.ts';
import type { HelperArtifact, HelperRequest } from './request.ts';
import type { ReadableFile } from './shared-file.ts';
import { Spool } from './spool.ts';

/** What a fetcher works with. */
export interface FetcherOptions {
  /** The agent's own directory; downloads are below it, in `artifacts/`. One fetcher at a time may have it. */
  readonly directory: string;
  readonly log: Log;
  readonly clock: Clock;
  /** Downloads that are kept for other tasks, bytes; 0: none. */
  readonly cacheMaxBytes: number;
  /** Default: node and `artifact-fetcher.js` beside the bundle. */
  readonly helperArgv?: readonly string[];
  /** Default: `ARTIFACT_LIMITS`. */
  readonly limits?: Partial<ArtifactLimits>;
  /** Certificates (PEM) of authorities that count instead of Node's own. */
  readonly ca?: string;
}

/** Where artifacts go. */
export interface FetchTarget {
  /** Absolute path of the sandbox's work directory. */
  readonly work: string;
  /** User and group of the task, who own `work`. Absent: the agent's own. */
  readonly ids?: { readonly uid: number; readonly gid: number };
  /** That user finds no way to `work`: the helper is started in it. Default false. */
  readonly isClosed?: boolean;
}

/** Gets artifacts. */
export interface Fetcher {
  /**
   * Puts all artifacts into a sandbox, in their order. If one fails, those before it may be there.
   *
   * @param signal ends it early: no process, connection or unfinished file is left
   * @throws KaonError `artifact-failed` with words that name the URI and the cause; `artifact-cancelled` if `signal` was
   *   aborted
   */
  fetch(uris: readonly Uri[], target: FetchTarget, signal: AbortSignal): Promise<void>;
}

/** Empties the directory of unfinished downloads. @throws the operating system's error if it cannot be made */
export function createFetcher(options: FetcherOptions): Fetcher {
  return new AgentFetcher(options);
}

class AgentFetcher implements Fetcher {
  readonly #options: FetcherOptions;
  readonly #around: DownloadSurroundings;
  readonly #limits: ArtifactLimits;
  readonly #spool: Spool;
  readonly #cache: ArtifactCache;
  /** Of helpers, by user. */
  readonly #gates = new Map<number, Gate>();

  constructor(options: FetcherOptions) {
    const { directory, log, clock, cacheMaxBytes: maxBytes, ca } = options;
    const root = join(directory, 'artifacts');
    this.#options = options;
    this.#limits = { ...ARTIFACT_LIMITS, ...options.limits };
    this.#around = { clock, log, limits: this.#limits, ca };
    this.#spool = new Spool(join(root, 'unfinished'));
    const index = { directory: join(root, 'cache'), maxBytes, clock, log };
    this.#cache = new ArtifactCache(index, this.#spool, this.#around);
  }

  async fetch(uris: readonly Uri[], target: FetchTarget, signal: AbortSignal): Promise<void> {
    const planned = planArtifacts(uris);
    if (planned.length === 0) return;
    const { log, clock } = this.#options;
    const startedAtMs = clock.monotonicMs();
    const files: (ReadableFile | undefined)[] = planned.map(() => undefined);
    try {
      await this.#getAll(planned, files, signal);
      await this.#place(planned, files, { target, signal });
    } catch (error) {
      throw signal.aborted ? artifactCancelled() : error;
    } finally {
      for (const file of files) await file?.release();
    }
    const ms = Math.round(clock.monotonicMs() - startedAtMs);
    log.info('artifact.fetched', { work: target.work, artifacts: planned.length, ms });
  }

  /** Gets what is not a path, some at a time. The first that fails ends the others. */
  async #getAll(
    planned: readonly PlannedArtifact[],
    files: (ReadableFile | undefined)[],
    signal: AbortSignal,
  ): Promise<void> {
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const gate = new Gate(DOWNLOADS_AT_ONCE);
    let firstError: unknown;
    const getOne = async (artifact: PlannedArtifact, index: number): Promise<void> => {
      try {
        files[index] = await gate.run(() => this.#get(artifact, either), either);
      } catch (error) {
        if (either.aborted) return;
        firstError = artifactFailed(artifact.label, error);
        failed.abort();
      }
    };
    await Promise.all(planned.map(getOne));
    if (signal.aborted) throw artifactCancelled();
    if (firstError !== undefined) throw firstError as KaonError;
  }

  async #get(artifact: PlannedArtifact, signal: AbortSignal): Promise<ReadableFile | undefined> {
    const { source, label, sha256, isCached } = artifact;
    if (source.type === 'path') return undefined;
    if (source.type === 'http' && isCached && this.#options.cacheMaxBytes > 0) {
      return this.#cache.open({ label, url: source.url, sha256 }, signal);
    }
    const part = await this.#spool.create();
    try {
      let found: string;
      if (source.type === 'data') {
        await part.handle.writeFile(source.bytes);
        found = createHash('sha256').update(source.bytes).digest('hex');
      } else found = await this.#download(artifact, source.url, { file: part.handle, signal });
      if (sha256 !== undefined) refuseOtherDigest(found, sha256);
    } catch (error) {
      await this.#spool.discard(part);
      throw error;
    }
    return this.#spool.finish(part);
  }

  /** @returns the digest of what was downloaded */
  async #download(
    { label, sha256 }: PlannedArtifact,
    url: URL,
    { file, signal }: { file: Parameters<typeof download>[0]['file']; signal: AbortSignal },
  ): Promise<string> {
    const hasSha256 = sha256 !== undefined;
    const wanted = { label, url, hasSha256, validatorsFor: () => undefined, file };
    const outcome = await download(wanted, this.#around, signal);
    if (outcome.isUnchanged) throw new KaonError('artifact-refused', 'status 304');
    return outcome.sha256;
  }

  async #place(
    planned: readonly PlannedArtifact[],
    files: readonly (ReadableFile | undefined)[],
    { target, signal }: { target: FetchTarget; signal: AbortSignal },
  ): Promise<void> {
    const open: number[] = [];
    const artifacts = planned.map((artifact, index): HelperArtifact => {
      const file = files[index];
      if (file) open.push(file.fd);
      return helperArtifact(artifact, file && helperFd(open.length - 1));
    });
    const request: HelperRequest = {
      work: target.isClosed === true ? '.' : target.work,
      temporary: `.artifact.${randomBytes(8).toString('hex')}`,
      writeMaxBytes: this.#limits.writeMaxBytes,
      entriesMax: this.#limits.entriesMax,
      artifacts,
    };
    const answer = await this.#throughGate(target, signal, () =>
      this.#run(request, target, { files: open, signal }),
    );
    if (answer.ok) return;
    const label = planned[answer.artifact ?? -1]?.label ?? 'into the sandbox';
    throw artifactFailed(label, new KaonError('artifact-refused', answer.message));
  }

  async #run(
    request: HelperRequest,
    { ids, work, isClosed = false }: FetchTarget,
    { files, signal }: Pick<HelperOptions, 'files' | 'signal'>,
  ): ReturnType<typeof runHelper> {
    const { helperArgv: argv = builtHelperArgv(), clock, log } = this.#options;
    const cwd = isClosed ? work : '/';
    try {
      return await runHelper(request, { argv, clock, ids, cwd, files, signal });
    } catch (error) {
      // It may have been stopped in the middle of a file.
      const clean = { argv, clock, ids, cwd, files: [], signal: new AbortController().signal };
      await runHelper({ ...request, artifacts: [] }, clean).catch((cause: unknown) => {
        log.warn('artifact.clean-failed', { work, error: messageOf(cause) });
      });
      const hint = (error as Partial<KaonError>).hint;
      throw new KaonError('artifact-failed', messageOf(error), {
        cause: error,
        ...(hint !== undefined && { hint }),
      });
    }
  }

  async #throughGate<T>(
    { ids }: FetchTarget,
    signal: AbortSignal,
    task: () => Promise<T>,
  ): Promise<T> {
    const uid = ids?.uid ?? -1;
    const gate = this.#gates.get(uid) ?? new Gate(HELPERS_AT_ONCE);
    this.#gates.set(uid, gate);
    try {
      return await gate.run(task, signal);
    } finally {
      if (gate.isIdle) this.#gates.delete(uid);
    }
  }
}

function helperArtifact(
  { source, action, target, mode, sha256 }: PlannedArtifact,
  fd: number | undefined,
): HelperArtifact {
  if (fd !== undefined) return { source: { fd }, action, target, mode };
  const path = source.type === 'path' ? source.path : '';
  return { source: { path }, action, target, mode, ...(sha256 !== undefined && { sha256 }) };
}
