/** The sums of roles, and what operators have said of them: the part of the books (`books.ts`) that is about roles. */
import type { FrameworkId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, NO_RESOURCES } from '../../protocol/resources.ts';
import type { RoleRecord } from '../../protocol/roles.ts';
import { ROLE_DEFAULT, rolePath } from '../../protocol/roles.ts';
import type { MasterState, Role } from './state.ts';

/**
 * Counts a change for a role and those above it.
 *
 * @param isLess something becomes free: a role with a quota may have more than before
 */
export function countRoles(state: MasterState, of: string, part: Resources, isLess: boolean): void {
  for (const name of rolePath(of)) {
    const role = roleAt(state, name);
    if (name === of) role.own = addResources(role.own, part);
    role.holds = addResources(role.holds, part);
    // Its frameworks may have more than before, of any agent.
    if (isLess && (role.record?.guarantee ?? role.record?.limit)) state.changed.everything = true;
  }
}

/** @returns the entry of a role, made with those above it if it is not there */
function roleAt(state: MasterState, name: string): Role {
  const known = state.roles.get(name);
  if (known) return known;
  const role: Role = { role: name, record: undefined, own: NO_RESOURCES, holds: NO_RESOURCES };
  state.roles.set(name, role);
  return role;
}

/** Replaces what an operator has said of a role. */
export function setRole(state: MasterState, record: RoleRecord): void {
  const { role } = record;
  const isPlain = (['weight', 'guarantee', 'limit'] as const).every(
    (field) => record[field] === undefined,
  );
  roleAt(state, role).record = isPlain ? undefined : record;
  state.dirty.roles.add(role);
  state.changed.everything = true;
}

/** Under which something is counted: the framework's own, where an older master or an agent has not said which. */
export function roleOf(
  state: MasterState,
  { role, frameworkId }: { readonly frameworkId: FrameworkId; readonly role?: string | undefined },
): string {
  return role ?? state.frameworks.get(frameworkId)?.record.info.role ?? ROLE_DEFAULT;
}
