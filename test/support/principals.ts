/** Principals for tests: each builder fills in what does not matter. */
import type { Principal, PrincipalKind, PrincipalRecord } from '../../protocol/principals.ts';
import { agentIdOf } from './builders.ts';

/** One that may do what its kind may: a framework with any role and no user, an agent with its own name. */
export function principal(
  name: string,
  kind: PrincipalKind,
  more: Partial<Principal> = {},
): Principal {
  return {
    name,
    kind,
    generation: 1,
    roles: kind === 'framework' ? ['*'] : [],
    users: [],
    ...(kind === 'agent' && { agentId: agentIdOf(name) }),
    ...more,
  };
}

/** The same as Redis holds it, created by `root@desk`. */
export function principalRecord(
  name: string,
  kind: PrincipalKind,
  more: Partial<PrincipalRecord> = {},
): PrincipalRecord {
  const acts = [{ number: 1, type: 'created' as const, by: 'root@desk', atMs: 1 }];
  return { ...principal(name, kind), createdAtMs: 1, acts, ...more };
}

/** Records by their names. */
export function recordsByName(
  ...records: readonly PrincipalRecord[]
): ReadonlyMap<string, PrincipalRecord> {
  return new Map(records.map((record) => [record.name, record]));
}
