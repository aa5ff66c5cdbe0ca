/** What the executor of processors and its child processes say to each other: both are of one build, on one node. */
import type {
  CallAnswer,
  ProcessorCall,
  ProcessorError,
  ProcessorOutcome,
} from '../processor-messages.ts';

/** From the executor. */
export type ToChild =
  | {
      readonly type: 'run';
      /** To be joined before anything else is done. */
      readonly cgroupProcs: readonly string[];
      /** JSON; undefined: it is to be asked for with `getJob`. */
      readonly job: string | undefined;
      readonly token: string;
      /** How the job finds its ports, GPUs and the like. */
      readonly environment: Readonly<Record<string, string>>;
    }
  | { readonly type: 'abort'; readonly reason: string }
  /** To the call with that id. */
  | { readonly type: 'answer'; readonly askId: number; readonly answer: CallAnswer };

/** From a child: first `ready`, or `import-failed` and the end; then for each `run` `started` or `not-joined`, and `done`. */
export type FromChild =
  | { readonly type: 'ready' }
  | { readonly type: 'import-failed'; readonly error: ProcessorError }
  | { readonly type: 'started' }
  /** Nothing of the job was done; the child is not to be used again. */
  | { readonly type: 'not-joined'; readonly message: string }
  /** `askId` if the child waits for the answer. */
  | { readonly type: 'call'; readonly askId?: number; readonly call: ProcessorCall }
  | {
      readonly type: 'done';
      /** JSON of `ProcessorOutcome`. */
      readonly outcome: string;
      readonly kind: ProcessorOutcome['outcome'];
      /** For words, if it has thrown. */
      readonly words?: string;
      /** Not to be used again: still in the task's cgroup, grown, or in an unknown state. */
      readonly isSpent: boolean;
    };
