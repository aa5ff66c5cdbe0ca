/**
 * Principals that change while the cluster runs: each act is an event, and the sessions of those whose tokens are not good
 * any more end. Their tasks go on: what becomes of them an operator decides, or the next holder of the name.
 */
import type { PrincipalRecord } from '../../protocol/principals.ts';
import type { StepContext } from './effects.ts';
import { appendEvent } from './effects.ts';
import { endSessionOf } from './refusals.ts';
import { problemOfHolder } from './sessions.ts';
import { setCluster } from './state.ts';

/** All principals of a secured cluster, as they are now: the first event of a term, and whenever they have changed. */
export interface PrincipalsChangedEvent {
  readonly type: 'principals.changed';
  readonly records: ReadonlyMap<string, PrincipalRecord>;
  /** Names whose records nobody with the cluster's key has written. */
  readonly forged: readonly string[];
}

/** Takes the principals as they are now. */
export function principalsChanged(
  cx: StepContext,
  { records, forged }: PrincipalsChangedEvent,
): void {
  const { state } = cx;
  const before = state.principals;
  state.principals = records;
  const seen: Record<string, number> = { ...state.cluster.principalActs };
  let isNews = false;
  for (const record of records.values()) {
    if (tellActs(cx, record, seen[record.name] ?? 0)) isNews = true;
    seen[record.name] = record.acts.at(-1)?.number ?? 0;
  }
  if (isNews) setCluster(state, { principalActs: seen });
  for (const name of forged) {
    if (state.forged.has(name)) continue;
    const message = `the record of token ${name} in Redis is not signed with the cluster key`;
    appendEvent(cx, { type: 'principal.forged', reason: 'forged', message });
  }
  state.forged = new Set(forged);
  if (before !== records) endLostSessions(cx);
}

/** Once in a while: tokens expire without anybody doing anything. */
export function endLostSessions(cx: StepContext): void {
  const { state } = cx;
  if (!state.principals) return;
  for (const holder of [...state.agents.values(), ...state.frameworks.values()]) {
    if (holder.record.session === undefined) continue;
    const problem = problemOfHolder(state, holder, cx.nowMs);
    if (problem !== undefined) endSessionOf(cx, holder, problem);
  }
}

/** @returns whether there was anything to tell */
function tellActs(cx: StepContext, record: PrincipalRecord, seen: number): boolean {
  const acts = record.acts.filter(({ number }) => number > seen);
  for (const { type, by } of acts) {
    appendEvent(cx, {
      type: `principal.${type}`,
      name: record.name,
      message: describe(record),
      principal: by,
    });
  }
  return acts.length > 0;
}

function describe({ kind, roles, users, agentId }: PrincipalRecord): string {
  const parts = [
    `kind ${kind}`,
    ...(roles.length > 0 ? [`roles ${roles.join(', ')}`] : []),
    ...(users.length > 0 ? [`users ${users.join(', ')}`] : []),
    ...(agentId === undefined ? [] : [`agent ${agentId}`]),
  ];
  return parts.join('; ');
}
