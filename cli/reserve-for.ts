/** What is kept for roles, as it is typed: `--reserve-for eng:cpus=2,mem=4G`. */
import type { StaticReservation } from '../protocol/reservations.ts';
import { RESERVATIONS_MAX } from '../protocol/reservations.ts';
import type { Resources } from '../protocol/resources.ts';
import { isEmpty, NO_RESOURCES } from '../protocol/resources.ts';
import { fromPartial } from '../protocol/roles.ts';
import { usageError } from './failure.ts';
import type { Flag } from './flags.ts';
import { flagError } from './flags.ts';
import { resourcesOf } from './resource-flags.ts';
import { checkRole } from './role-name.ts';

/** `--reserve-for ROLE:LIST`, as often as it is given. @throws KaonError `usage` */
export function parseReserveFor(values: readonly string[]): StaticReservation[] {
  const reservations = values.map((typed) => {
    const at = typed.lastIndexOf(':');
    if (at < 0) {
      throw flagError(
        { flag: '--reserve-for', value: typed },
        'not ROLE:LIST; write eng:cpus=2,mem=4G',
      );
    }
    const inner = { flag: '--reserve-for', value: typed.slice(at + 1), typed };
    return { role: checkRole(typed.slice(0, at)), resources: reservedOf(inner) };
  });
  const roles = reservations.map(({ role }) => role);
  const twice = roles.find((role, index) => roles.indexOf(role) !== index);
  if (twice !== undefined) throw usageError(`--reserve-for: role ${twice} is given twice`);
  if (roles.length > RESERVATIONS_MAX) {
    throw usageError(`--reserve-for: at most ${String(RESERVATIONS_MAX)} times`);
  }
  return reservations;
}

/** @returns resources of which there is some @throws KaonError `usage` */
export function reservedOf(flag: Flag): Resources {
  const resources = fromPartial(resourcesOf(flag, NO_RESOURCES));
  if (isEmpty(resources)) throw flagError(flag, 'nothing of anything');
  return resources;
}
