/** Launch ids, `EPOCH.TERM.NUMBER`: how they are made, and which of two is the later one. */
import type { LaunchId } from '../../protocol/ids.ts';
import type { MasterState } from './state.ts';

/** The id of the next launch of a task or an executor: no two of a cluster have the same. */
export function nextLaunchId(state: MasterState): LaunchId {
  return `${String(state.epoch)}.${state.term}.${String(state.nextLaunch++)}` as LaunchId;
}

/** True if `b` was the next one that was made after `a`, by the same leader. */
export function isNextLaunch(a: LaunchId, b: LaunchId): boolean {
  const [aEpoch, aTerm, aNumber] = a.split('.');
  const [bEpoch, bTerm, bNumber] = b.split('.');
  return aEpoch === bEpoch && aTerm === bTerm && Number(aNumber) + 1 === Number(bNumber);
}

/** True if `a` was made after `b`; nothing is newer than what this term has made. */
export function isNewerLaunch(ownTerm: string, a: LaunchId, b: LaunchId): boolean {
  const [aEpoch = '', aTerm, aNumber = ''] = a.split('.');
  const [bEpoch = '', bTerm, bNumber = ''] = b.split('.');
  if (bTerm === ownTerm && aTerm !== ownTerm) return false;
  if (aEpoch !== bEpoch) return Number(aEpoch) > Number(bEpoch);
  return aTerm === bTerm && Number(aNumber) > Number(bNumber);
}
