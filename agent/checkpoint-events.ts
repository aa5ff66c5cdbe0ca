/** What a checkpoint itself says of what became of its launch. */
import type { Clock } from '../io/clock.ts';
import type { TaskCheckpoint } from './checkpoint.ts';
import type { AgentEvent, LaunchRef } from './core/events.ts';
import { readOutputEnd } from './sandbox.ts';

/** The longest grace period that a task or a kill can have, milliseconds. */
const KILL_GRACE_MAX_MS = 3_600_000;

/**
 * When SIGKILL is due, monotonic milliseconds of this process. A clock that was set meanwhile makes nobody wait longer than
 * a grace period can be.
 */
export function killDue({ killAtMs }: TaskCheckpoint, clock: Clock): number | undefined {
  if (killAtMs === undefined) return undefined;
  const leftMs = Math.max(0, killAtMs - clock.wallMs());
  return clock.monotonicMs() + Math.min(leftMs, KILL_GRACE_MAX_MS);
}

/** True if the checkpoint itself says what became of the launch. */
export function hasEnd({ failed, ended, lost }: TaskCheckpoint): boolean {
  return failed !== undefined || ended !== undefined || lost !== undefined;
}

/** What the checkpoint itself says of the end; empty if it says nothing. */
export function knownEvents(
  checkpoint: TaskCheckpoint,
  { key, launchId }: LaunchRef,
): AgentEvent[] {
  const { failed, ended, lost, sandbox } = checkpoint;
  if (failed) return [{ type: 'unit.failed', key, launchId, ...failed }];
  if (lost !== undefined) return [{ type: 'unit.lost', key, launchId, message: lost }];
  if (!ended) return [];
  const certificate = { ...ended.certificate, ...readOutputEnd(sandbox) };
  return [
    { type: 'unit.started', key, launchId },
    { type: 'unit.ended', key, launchId, ended: { ...ended, certificate } },
  ];
}
