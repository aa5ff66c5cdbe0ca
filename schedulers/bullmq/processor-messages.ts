/**
 * What the scheduler of a queue and the executors of its processor say to each other: the `data` of a task and of its last
 * update, and the framework messages between them. Those are best effort, so whoever asks numbers its calls and asks again
 * until there is an answer; whoever answers does each number once.
 */
import { z } from 'zod';
import { Text } from '../../protocol/fields.ts';

/** `data` of a task: what the processor is called with. */
export const ProcessorTask = z.object({
  /** JSON of the job (`asJSONSandbox` of BullMQ). Absent if it is too large for a task; then it is asked for with `getJob`. */
  job: z.string().optional(),
  /** Second argument of the processor; nothing else is done with it on the node. */
  token: z.string(),
});
export type ProcessorTask = z.infer<typeof ProcessorTask>;

/** An error that crosses a wire. What the processor has put on it besides stays where it is. */
export const ProcessorError = z.object({
  name: z.string().default('Error'),
  message: z.string().default(''),
  stack: z.string().optional(),
});
export type ProcessorError = z.infer<typeof ProcessorError>;

/** One wish of a processor's job object. Those without an answer of interest are answered all the same: it says "done". */
export const ProcessorCall = z.discriminatedUnion('call', [
  z.object({ call: z.literal('getJob') }),
  /** The processor itself, for an executor whose node does not have it: gzip, base64. */
  z.object({ call: z.literal('getProcessor') }),
  z.object({ call: z.literal('log'), rows: z.array(z.string()) }),
  z.object({ call: z.literal('updateProgress'), value: z.unknown().optional() }),
  z.object({ call: z.literal('updateData'), data: z.unknown().optional() }),
  z.object({ call: z.literal('getChildrenValues') }),
  z.object({ call: z.literal('getIgnoredChildrenFailures') }),
  z.object({ call: z.literal('getDependenciesCount'), options: z.unknown().optional() }),
  z.object({ call: z.literal('getDependencies'), options: z.unknown().optional() }),
  z.object({ call: z.literal('moveToDelayed'), timestamp: z.number() }),
  z.object({ call: z.literal('moveToWait') }),
  z.object({ call: z.literal('moveToWaitingChildren'), options: z.unknown().optional() }),
  /** How the job ended, if that is too large for the last update: JSON of `ProcessorOutcome`. */
  z.object({ call: z.literal('outcome'), outcome: z.string() }),
]);
export type ProcessorCall = z.infer<typeof ProcessorCall>;

/** A call with its number: 1, 2, ... of one task. They are done in order. */
export const NumberedCall = z.object({ sequence: z.int().min(1), call: ProcessorCall });
export type NumberedCall = z.infer<typeof NumberedCall>;

/** The answer to a call of that number. */
export const CallAnswer = z.union([
  z.object({ ok: z.literal(true), value: z.unknown().optional() }),
  z.object({ ok: z.literal(false), error: ProcessorError }),
]);
export type CallAnswer = z.infer<typeof CallAnswer>;

/** How the processor ended. */
export const ProcessorOutcome = z.discriminatedUnion('outcome', [
  z.object({ outcome: z.literal('returned'), value: z.unknown().optional() }),
  z.object({ outcome: z.literal('threw'), error: ProcessorError }),
]);
export type ProcessorOutcome = z.infer<typeof ProcessorOutcome>;

/** `data` of the last update of a task. */
export const ProcessorEnd = z.object({
  /** Absent if it was sent as a call, or the process has ended before it could say anything. */
  outcome: ProcessorOutcome.optional(),
  /** What has not been answered yet, in order. */
  calls: z.array(NumberedCall).default([]),
  /** Last lines that the process has written while it worked on the job. */
  output: Text.default(''),
});
export type ProcessorEnd = z.infer<typeof ProcessorEnd>;

/**
 * One framework message, either way: a part of the JSON of a `NumberedCall` (from the executor) or of a `CallAnswer` (to
 * it). A text is sent whole again if anything of it is missing.
 */
export const Frame = z.object({
  taskId: z.string(),
  sequence: z.int().min(1),
  /** From 0. */
  part: z.int().min(0),
  parts: z.int().min(1).max(1000),
  text: z.string(),
});
export type Frame = z.infer<typeof Frame>;
