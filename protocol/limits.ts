/** Every maximum of the wire, in one place: a peer that goes over one gets an error that names it. */

/**
 * One stream entry, bytes of JSON; a larger one is refused. Redis takes 512 MB; this is room for the largest single
 * message that the other limits allow in practice: 10,000 tasks in one launch, 100,000 in one registration.
 */
export const ENTRY_MAX_BYTES = 16 * 1024 * 1024;
/** Up to here several messages share an entry, bytes of JSON: what a reader takes at a time stays small. */
export const ENTRY_FULL_BYTES = 1024 * 1024;
/** Messages packed into one stream entry. */
export const ENTRY_MAX_MESSAGES = 500;
/** One message, bytes of JSON: a command line and its environment (Linux allows 2 MiB; 256 KiB is a script). */
export const MESSAGE_MAX_BYTES = 256 * 1024;
/** Entries in the inbox that the leader has not read; beyond it appends are refused and clients wait. */
export const INBOX_MAX_ENTRIES = 200_000;
/** Entries in a client's stream that it has not read; beyond it the client is disconnected. */
export const CLIENT_STREAM_MAX_ENTRIES = 20_000;
/** Events and ended tasks that are kept for people (approximate trimming). */
export const EVENTS_MAX_ENTRIES = 50_000;
export const HISTORY_MAX_ENTRIES = 10_000;
/** What a leader could not take (approximate trimming), and states of the whole cluster (exact). */
export const QUARANTINE_MAX_ENTRIES = 1000;
export const SNAPSHOTS_MAX_ENTRIES = 4;

/** Items of one list or map in a message, and characters of a text for people. */
export const TASKS_PER_LAUNCH_MAX = 10_000;
export const OFFERS_PER_CALL_MAX = 1000;
export const ARGV_MAX_ITEMS = 4096;
export const ENVIRONMENT_MAX_ITEMS = 1024;
export const LABELS_MAX_ITEMS = 64;
export const TEXT_MAX_CHARS = 4096;

/** Smallest task: below it the kernel cannot start a process in the cgroup, or systemd rounds the quota away. */
export const TASK_CPU_MILLIS_MIN = 10;
export const TASK_MEM_MIB_MIN = 4;

/** Shortest time after which an unreachable task may be stopped: three heartbeats, or one late answer would stop it. */
export const UNREACHABLE_STOP_MIN_MS = 15_000;

/** Last output of a task that travels with its terminal update, bytes of each of stdout and stderr. */
export const TAIL_MAX_BYTES = 32 * 1024;

/** `data` of a task, an executor, a status update or a framework message, characters; bytes travel as base64. */
export const DATA_MAX_CHARS = 64 * 1024;
/** Artifacts of one task, and characters of one URI: a `data:` URI may hold a small program. */
export const URIS_MAX_ITEMS = 64;
export const URI_MAX_CHARS = 200 * 1024;
/** One line between agent and executor, bytes: any message that the other limits allow. */
export const EXECUTOR_LINE_MAX_BYTES = 16 * 1024 * 1024;
