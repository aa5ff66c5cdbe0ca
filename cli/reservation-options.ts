/** Flags of the commands about reservations; see `definitions-reservations.ts`. */
import type { ReservationId } from '../protocol/ids.ts';
import { LABELS_MAX_ITEMS } from '../protocol/limits.ts';
import type { ReserveWish } from './commands/reserve.ts';
import type { PairRule } from './flags.ts';
import { pairsOf } from './flags.ts';
import type { RawOptions } from './parse-options.ts';
import { list, text } from './parse-options.ts';
import { reservedOf } from './reserve-for.ts';
import { checkRole } from './role-name.ts';

const LABELS: PairRule = {
  key: /^\S{1,128}$/,
  keyIs: 'a name',
  maxItems: LABELS_MAX_ITEMS,
  maxValueChars: 1024,
  example: 'team=search',
};

/** @throws KaonError `usage` */
export function parseReserve(raw: RawOptions, role: string, value: string): ReserveWish {
  const parentId = text(raw, 'from');
  return {
    role: checkRole(role),
    resources: reservedOf({ flag: 'the list', value }),
    labels: pairsOf('--label', list(raw, 'label'), LABELS),
    ...(parentId !== undefined && { parentId: parentId as ReservationId }),
  };
}
