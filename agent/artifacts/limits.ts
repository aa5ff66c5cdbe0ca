/** Every maximum of fetching artifacts, in one place: whatever a task names, the node survives it. */

const GIB = 1024 ** 3;

/** What a fetch may take. A fetcher has the defaults below unless it is told otherwise. */
export interface ArtifactLimits {
  /** One download, bytes. */
  readonly downloadMaxBytes: number;
  /** Written to the sandbox by all artifacts of a fetch together, bytes; of a tar archive also its headers. */
  readonly writeMaxBytes: number;
  /** Entries in all archives of a fetch together, and directories that are made. */
  readonly entriesMax: number;
  /** Until a connection is there, with TLS. */
  readonly connectTimeoutMs: number;
  /** Without a byte of an answer. */
  readonly idleTimeoutMs: number;
}

/** 20 GiB a download and a fetch, a million entries, 15 s for a connection, and as in Mesos a minute without a byte. */
export const ARTIFACT_LIMITS: ArtifactLimits = {
  downloadMaxBytes: 20 * GIB,
  writeMaxBytes: 20 * GIB,
  entriesMax: 1_000_000,
  connectTimeoutMs: 15_000,
  idleTimeoutMs: 60_000,
};

/** Redirects that are followed for one artifact. */
export const REDIRECTS_MAX = 10;
/** A download that fails for a reason which may pass is tried so often in all. */
export const ATTEMPTS_MAX = 3;
/** Downloads of one fetch at a time. */
export const DOWNLOADS_AT_ONCE = 4;
/** Helpers of one user at a time: each is a process with some 50 MiB, and one that hangs must not stop other users. */
export const HELPERS_AT_ONCE = 8;
/** A helper that takes longer is stuck, on a file system that does not answer for example. */
export const HELPER_MAX_MS = 3_600_000;
/** Name of an entry, bytes: with a long path of the sandbox it is still one that open(2) takes, and rm. */
export const NAME_MAX_BYTES = 2048;
/** Target of a symbolic link, bytes: open(2) takes no longer path. */
export const PATH_MAX_BYTES = 4095;
