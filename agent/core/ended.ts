/**
 * Ends that the framework knows, kept for a while: Redis may fail over to a replica that lacks the last writes, and then
 * the master has to hear them again, or it would take the task for lost, or start it once more. Pure.
 */
import type { LaunchId } from '../../protocol/ids.ts';
import type { DeathCertificate, TaskStatus } from '../../protocol/task.ts';
import type { AgentState } from './state.ts';

/** How long an acknowledged end is kept, milliseconds: far longer than a replica lags behind, or a failover takes. */
export const ENDED_KEEP_MS = 300_000;
/** At most so many of them: an agent that ends ten tasks a second keeps the last minutes. */
export const ENDED_KEEP_COUNT = 1000;
/** Of the last output of each, characters: a thousand whole tails would be 64 MiB. */
const TAIL_KEEP_CHARS = 2048;

/** Remembers an end that has been acknowledged at `acknowledgedAtMs`. */
export function keepEnded(
  state: AgentState,
  launchId: LaunchId,
  ended: { readonly status: TaskStatus; readonly acknowledgedAtMs: number },
): void {
  const { status, acknowledgedAtMs } = ended;
  const { certificate } = status;
  const short = certificate ? { ...status, certificate: withShortTails(certificate) } : status;
  state.ended.set(launchId, { status: short, acknowledgedAtMs });
}

/** Drops what is too old or too many. @returns the launches that were dropped */
export function pruneEnded(state: AgentState, nowMs: number): LaunchId[] {
  const dropped: LaunchId[] = [];
  for (const [launchId, { acknowledgedAtMs }] of state.ended) {
    const isOld = nowMs - acknowledgedAtMs > ENDED_KEEP_MS;
    if (!isOld && state.ended.size <= ENDED_KEEP_COUNT) break;
    state.ended.delete(launchId);
    dropped.push(launchId);
  }
  return dropped;
}

function withShortTails(certificate: DeathCertificate): DeathCertificate {
  const { stdoutTail, stderrTail } = certificate;
  return {
    ...certificate,
    ...(stdoutTail !== undefined && { stdoutTail: stdoutTail.slice(-TAIL_KEEP_CHARS) }),
    ...(stderrTail !== undefined && { stderrTail: stderrTail.slice(-TAIL_KEEP_CHARS) }),
  };
}
