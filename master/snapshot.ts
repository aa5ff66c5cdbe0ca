/**
 * The state of the whole cluster for the stream of snapshots: what a replay of the event log begins with, since the log
 * is capped. Written with the second commit of a term, because what could not be loaded is not in any event, and then
 * often enough for the newest one to be followed by events that are all still there.
 */
import type { ProjectionSource } from '../protocol/replay.ts';
import { projectionOf, toLists } from '../protocol/replay.ts';
import type { Agent, Framework, MasterState } from './core/state.ts';

/** Commits from one snapshot to the next; a commit has one entry in the log at most, which keeps 50,000. */
export const SNAPSHOT_COMMITS = 20_000;

/** @returns the records of a state, for its projection */
export function sourceOf(state: MasterState): ProjectionSource {
  return {
    cluster: [state.cluster],
    agents: recordsIn(state.agents),
    frameworks: recordsIn(state.frameworks),
    offers: state.offers.values(),
    executors: state.executors.values(),
    tasks: state.tasks.values(),
  };
}

function* recordsIn<R extends Agent['record'] | Framework['record']>(
  holders: ReadonlyMap<string, { readonly record: R }>,
): Generator<R> {
  for (const { record } of holders.values()) yield record;
}

/** @returns JSON of the projection; of 50,000 tasks 10 MB, in 40 ms */
export function snapshotOf(state: MasterState): string {
  return JSON.stringify(toLists(projectionOf(sourceOf(state))));
}
