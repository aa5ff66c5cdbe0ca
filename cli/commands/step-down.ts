/**
 * `kaon step-down`: gives up the lease of a master, so that another leads at once. For the end of a service, when the
 * master itself may have died without a word; and by hand, to move the leadership.
 */
import { systemClock } from '../../io/clock.ts';
import type { Lease, Store } from '../../io/store.ts';
import type { MasterId } from '../../protocol/ids.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { StepDownOptions } from '../options.ts';
import { escapeControls } from '../words.ts';

/** A successor takes some milliseconds; a master without one leads again after two seconds. Milliseconds. */
const SUCCESSOR_WAIT_MS = 10_000;
const LOOK_MS = 20;

/** @returns the exit code: also if that master does not lead, all is as it was asked for */
export async function stepDown(options: StepDownOptions): Promise<number> {
  return withStore(options, { name: 'step-down' }, async (store) => {
    const said =
      options.masterId === undefined
        ? await stepDownCurrent(store)
        : await stepDownOf(store, options.masterId);
    process.stdout.write(`${escapeControls(said)}\n`);
    return EXIT_OK;
  });
}

async function stepDownOf(store: Store, masterId: MasterId): Promise<string> {
  if (await store.releaseLeaseOf(masterId)) return `master ${masterId} does not lead any more`;
  const leader = await store.leader();
  return `master ${masterId} did not lead; ${leader ? `${leader.masterId} does` : 'no master does'}`;
}

async function stepDownCurrent(store: Store): Promise<string> {
  const leader = await store.leader();
  if (!leader || !(await store.releaseLeaseOf(leader.masterId))) return 'no master leads';
  const next = await successorOf(store, leader);
  const now = next
    ? `master ${next.masterId} leads, epoch ${String(next.epoch)}`
    : 'no master leads yet';
  return `master ${leader.masterId} has stepped down; ${now}`;
}

async function successorOf(store: Store, before: Lease): Promise<Lease | undefined> {
  const deadlineMs = systemClock.monotonicMs() + SUCCESSOR_WAIT_MS;
  while (systemClock.monotonicMs() < deadlineMs) {
    const leader = await store.leader();
    if (leader && leader.epoch !== before.epoch) return leader;
    await systemClock.sleep(LOOK_MS);
  }
  return undefined;
}
