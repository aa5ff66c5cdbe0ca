/** Agents as commands show them, and how one is found by what a person types. */
import { KaonError } from '../protocol/errors.ts';
import type { AgentRecord } from '../protocol/records.ts';
import { escapeControls, formatSpan } from './words.ts';

/** Ways in which a person's word can mean an agent, the most exact first. */
const MATCHES: readonly ((record: AgentRecord, word: string) => boolean)[] = [
  ({ info }, word) => info.agentId === word,
  ({ info }, word) => info.hostname === word,
  ({ info }, word) => info.agentId.startsWith(word),
  ({ info }, word) => info.hostname.startsWith(word),
];

/** Candidates that an error lists at most. */
const CANDIDATES_MAX = 10;

/**
 * Picks the agent that is meant: by id, by host name, or by the beginning of either, in this order.
 *
 * @throws KaonError `not-found`; `ambiguous` with the candidates
 */
export function pickAgent(asked: string, agents: readonly AgentRecord[]): AgentRecord {
  for (const isMatch of asked === '' ? [] : MATCHES) {
    const found = agents.filter((record) => isMatch(record, asked));
    if (found.length > 1) throw ambiguous(asked, found);
    if (found[0]) return found[0];
  }
  throw new KaonError(
    'not-found',
    `no agent ${asked === '' ? "''" : asked} among the ${String(agents.length)} of the cluster`,
    { hint: 'kaon agents lists them; is it another --cluster?' },
  );
}

function ambiguous(asked: string, found: readonly AgentRecord[]): KaonError {
  const lines = found
    .slice(0, CANDIDATES_MAX)
    .map(({ info, state }) => `  ${info.agentId}  ${escapeControls(info.hostname)}, ${state}`);
  const rest = found.length - CANDIDATES_MAX;
  const more = rest > 0 ? [`  and ${String(rest)} more`] : [];
  return new KaonError(
    'ambiguous',
    [`${asked} may be any of ${String(found.length)} agents:`, ...lines, ...more].join('\n'),
    { hint: 'write more of the id' },
  );
}

/** @returns `active`, `connecting` (it has to register again), `draining`, `drained`, `deactivated`, `unreachable for 5m`, `gone for 2h` */
export function describeAgentState(record: AgentRecord, nowMs: number): string {
  const { state, session, awaySinceMs } = record;
  if (state === 'active' && session === undefined) return 'connecting';
  if (state === 'active') return describeActive(record, nowMs);
  return awaySinceMs === undefined ? state : `${state} for ${formatSpan(awaySinceMs, nowMs)}`;
}

function describeActive({ drain, deactivatedAtMs }: AgentRecord, nowMs: number): string {
  const rest = deactivatedAtMs === undefined ? '' : ', deactivated';
  if (!drain) return rest === '' ? 'active' : 'deactivated';
  if (drain.fromMs > nowMs) return `active${rest}, drained in ${formatSpan(nowMs, drain.fromMs)}`;
  return `${drain.emptyAtMs === undefined ? 'draining' : 'drained'}${rest}`;
}
