/**
 * Holds the event log to its promise: a projection that is only ever told the events of each commit is, after every
 * commit, the projection of the records.
 */
import assert from 'node:assert/strict';
import { ClusterEvent } from '../../protocol/records.ts';
import type { Projection, ProjectionSource } from '../../protocol/replay.ts';
import {
  ProjectionLists,
  applyEvent,
  compareProjections,
  emptyProjection,
  fromLists,
  projectionOf,
} from '../../protocol/replay.ts';

export interface EventLogCheck {
  /**
   * To be called after each commit.
   *
   * @param events JSON of the events of the commit, as `Commit.events` has them
   * @param records what the registry holds after it
   * @param snapshot `Commit.snapshot`: the next comparisons begin there, as a replay would
   * @throws AssertionError that lists what the log says and what the records say
   */
  committed(events: readonly string[], records: ProjectionSource, snapshot?: string): void;
  /** Redis has come back with older data or none: the log goes on from what it has kept. */
  restart(records: ProjectionSource): void;
}

/** @returns a check that begins with an empty cluster */
export function createEventLogCheck(): EventLogCheck {
  let followed: Projection = emptyProjection();
  return {
    committed: (events, records, snapshot) => {
      for (const event of events) applyEvent(followed, ClusterEvent.parse(JSON.parse(event)));
      const actual = projectionOf(records);
      if (snapshot !== undefined) {
        const stored = fromLists(ProjectionLists.parse(JSON.parse(snapshot)));
        assertSame(stored, actual, 'the snapshot of a commit and the records after it');
        followed = stored;
        return;
      }
      assertSame(followed, actual, `the log up to ${events.join(' ')} and the records`);
    },
    restart: (records) => {
      followed = projectionOf(records);
    },
  };
}

function assertSame(followed: Projection, actual: Projection, what: string): void {
  const differences = compareProjections(followed, actual).map(
    ({ kind, id, first, second }) =>
      `${kind} ${id}: ${JSON.stringify(first)} and not ${JSON.stringify(second)}`,
  );
  assert.deepEqual(differences, [], what);
}
