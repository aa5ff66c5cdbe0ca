/** What the agent and its helper say to each other: one line of JSON each. */

/** From where the helper has the bytes: a file that the agent has opened for it, or a path that it opens itself. */
export type HelperSource = { readonly fd: number } | { readonly path: string };

/** One artifact, as the helper is told of it. */
export interface HelperArtifact {
  readonly source: HelperSource;
  readonly action: 'file' | 'extract';
  readonly target: readonly string[];
  readonly mode: number;
  /** Still to be checked: of paths only, the agent has checked the others. */
  readonly sha256?: string;
}

/** Everything that one helper does. Without artifacts it removes the temporary file. */
export interface HelperRequest {
  /** Path of the sandbox's work directory, for the helper. */
  readonly work: string;
  /** Name of the file in `work` that is not yet in its place. */
  readonly temporary: string;
  readonly writeMaxBytes: number;
  readonly entriesMax: number;
  readonly artifacts: readonly HelperArtifact[];
}

/** `artifact` is the index of the one that failed; absent if it was none in particular. */
export type HelperAnswer =
  | { readonly ok: true }
  | { readonly ok: false; readonly artifact?: number; readonly message: string };
