/** What a producer writes into the data of a job, for its compiler; `job-spec.ts` checks it. */

/** What a job of any kind may say about its place and limits: as `kaon` in the data of a job for a processor. */
export interface KaonFields {
  /** Cores: 0.5, 2, "250m". */
  readonly cpus?: number | string;
  /** "256M", "1.5G"; a number is MiB. */
  readonly mem?: number | string;
  /** Longest time of an attempt: "10m"; a number is milliseconds. */
  readonly timeout?: number | string;
  /** From SIGTERM to SIGKILL. */
  readonly killGrace?: number | string;
  /** Only agents that have all of these. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** Groups of a queue have their turns: a tenant, a user. */
  readonly group?: string | number;
}

/** The data of a job that is a command; or the field `kaon` of it, beside data of your own. */
export interface CommandJob extends KaonFields {
  /** A list is executed as it is, a string by `sh -c`. */
  readonly command: string | readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Files and archives for its sandbox: docs/artifacts.md. */
  readonly uris?: readonly (string | Readonly<Record<string, unknown>>)[];
  readonly user?: string;
  /** Shares the warm executor of this name; false: has a unit of its own. */
  readonly executor?: string | false;
}
