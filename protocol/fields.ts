/**
 * Small schemas that messages share: times, texts, labels. Objects ignore keys that they do not know, because a newer
 * peer may send more.
 */
import { z } from 'zod';
import { LABELS_MAX_ITEMS, TEXT_MAX_CHARS } from './limits.ts';

/** Milliseconds since 1970 by the clock of Redis, the only one that the cluster compares. */
export const TimestampMs = z.int().min(0);
/** At most ten years, so that a sum of a time and a duration stays a safe integer. */
export const DurationMs = z.int().min(0).max(315_360_000_000);
/** Words for people. */
export const Text = z.string().max(TEXT_MAX_CHARS);
/** No NUL: neither execve(2) nor D-Bus can carry one. */
export const ProgramText = z.string().regex(/^[^\0]*$/, 'must not contain a NUL character');

/** Names and values that mean something to their author only: labels of tasks, attributes of agents. */
export const Labels = z
  .record(z.string().min(1).max(128), z.string().max(1024))
  .refine((record) => Object.keys(record).length <= LABELS_MAX_ITEMS, {
    message: `at most ${String(LABELS_MAX_ITEMS)} labels`,
  });
export type Labels = z.infer<typeof Labels>;
