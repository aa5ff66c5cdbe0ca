/** What is known of how a task ended, in sentences for people. Pure. */
import { formatBytes, formatDuration } from './quantities.ts';
import type { DeathCertificate, TaskStatus } from './task.ts';

/** @returns message and reason of a status, and what its certificate adds to them */
export function wordsOfStatus(status: TaskStatus | undefined): string[] {
  if (!status) return [];
  const { message, reason, source, certificate } = status;
  const by = source === 'SOURCE_AGENT' ? '' : ` (${source})`;
  return [
    ...(message === undefined ? [] : [message]),
    ...(reason === undefined ? [] : [`reason ${reason}${by}`]),
    // The message has it, if there is one.
    ...(certificate && message === undefined ? howItLeft(certificate) : []),
    ...(certificate ? whatItTook(certificate) : []),
  ];
}

function howItLeft({ exitCode, signal, oomKills = 0 }: DeathCertificate): string[] {
  return [
    ...(exitCode === undefined ? [] : [`exit code ${String(exitCode)}`]),
    ...(signal === undefined ? [] : [`signal ${String(signal)}`]),
    ...(oomKills > 0 ? [`${String(oomKills)} processes killed for memory`] : []),
  ];
}

function whatItTook(certificate: DeathCertificate): string[] {
  const { startedAtMs, endedAtMs, cpuUsec } = certificate;
  const parts = [
    ...(startedAtMs === undefined || endedAtMs === undefined
      ? []
      : [`ran for ${formatDuration(Math.max(0, endedAtMs - startedAtMs))}`]),
    ...memoryOf(certificate),
    ...(cpuUsec === undefined ? [] : [`${formatDuration(Math.round(cpuUsec / 1000))} of CPU time`]),
  ];
  return parts.length === 0 ? [] : [parts.join(', ')];
}

function memoryOf({ memoryPeakBytes, memoryLimitBytes }: DeathCertificate): string[] {
  if (memoryPeakBytes === undefined) return [];
  const limit = memoryLimitBytes === undefined ? '' : ` of ${formatBytes(memoryLimitBytes)}`;
  return [`at most ${formatBytes(memoryPeakBytes)}${limit} of memory`];
}
