/** The name of a role, as it is typed. */
import { problemOfRole } from '../protocol/roles.ts';
import { usageError } from './failure.ts';

/** @throws KaonError `usage` */
export function checkRole(role: string): string {
  const problem = problemOfRole(role);
  if (problem !== undefined) throw usageError(problem);
  return role;
}
