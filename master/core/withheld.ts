/**
 * Agents of which nothing is offered, whoever asks and however much is free: not there, drained, deactivated, or not on the
 * master's whitelist. What runs on them goes on.
 */
import { matchesGlob } from '../../protocol/glob.ts';
import type { Agent, MasterState } from './state.ts';
import { isDraining } from './state.ts';

/** Why nothing of an agent is offered; the words for it are in `WITHHELD_WORDS`. */
export type Withheld =
  'unreachable' | 'not-connected' | 'drained' | 'deactivated' | 'not-whitelisted';

/** For people. An agent that is `unreachable` may also be gone. */
export const WITHHELD_WORDS: Readonly<Record<Withheld, string>> = {
  unreachable: 'it is unreachable',
  'not-connected': 'its agent is not connected',
  drained: 'it is being drained',
  deactivated: 'an operator has deactivated it',
  'not-whitelisted': 'it is not on the whitelist of the master',
};

/** @returns undefined: it may be offered */
export function withheldBy(
  { whitelist }: Pick<MasterState, 'whitelist'>,
  agent: Readonly<Agent>,
  nowMs: number,
): Withheld | undefined {
  const { state, session, deactivatedAtMs, info } = agent.record;
  if (state !== 'active') return 'unreachable';
  if (session === undefined) return 'not-connected';
  if (isDraining(agent, nowMs)) return 'drained';
  if (deactivatedAtMs !== undefined) return 'deactivated';
  if (!whitelist || whitelist.agentIds.has(info.agentId)) return undefined;
  const isMeant = whitelist.patterns.some((pattern) => matchesGlob(pattern, info.agentId));
  return isMeant ? undefined : 'not-whitelisted';
}
