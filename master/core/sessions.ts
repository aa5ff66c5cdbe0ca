/** Sessions that are not to be listened to any more. */
import type { SessionId } from '../../protocol/ids.ts';
import { sessionNumber } from '../../protocol/ids.ts';
import type { PrincipalProblem } from '../../protocol/principals.ts';
import { problemOfPrincipal } from '../../protocol/principals.ts';
import type { Agent, Framework, MasterState } from './state.ts';

/**
 * A registration of a session that was opened before the last loss of data: Redis has kept it where it has lost what came
 * after it, or a client library has sent it again. What it says is old, and the client's place in the stream of that
 * session means nothing in this Redis; the client opens another one when it finds out that this one is not known.
 *
 * @param isOfOldCluster the client has been in this cluster before, also if Redis knows nothing of that
 */
export function isFromBeforeLoss(
  { cluster }: Readonly<MasterState>,
  session: SessionId,
  isOfOldCluster: boolean,
): boolean {
  const { sessionsFrom = 0, isNew } = cluster;
  if (isNew && !isOfOldCluster) return false;
  const number = sessionNumber(session);
  return number > 0 && number < sessionsFrom;
}

/**
 * What is wrong with the token under which an agent or a framework has registered. Of a framework with such a problem the
 * failover timeout does not count: that it is away is not its own doing.
 */
export function problemOfHolder(
  { principals }: MasterState,
  { record }: Agent | Framework,
  nowMs: number,
): PrincipalProblem | undefined {
  const name = 'node' in record ? record.principal : record.info.principal;
  if (!principals || name === undefined) return undefined;
  const known = principals.get(name);
  return problemOfPrincipal(known, record.generation ?? known?.generation ?? 0, nowMs);
}
