/** From the registry in Redis to the core's state. A record that cannot be read is named, left where it is, and skipped. */
import type { Log } from '../io/log.ts';
import type { Snapshot } from '../io/store.ts';
import { decodeWith } from '../protocol/codec.ts';
import { AgentRecord, FrameworkRecord, OfferRecord, TaskRecord } from '../protocol/records.ts';
import type { z } from 'zod';
import type { Records } from './core/state.ts';

/** @returns every record that can be read, in the order of the registry */
export function decodeSnapshot(snapshot: Snapshot, log: Log): Records {
  const { agents, frameworks, offers, tasks } = snapshot.registry;
  return {
    agents: decodeAll('agents', agents, AgentRecord, log),
    frameworks: decodeAll('frameworks', frameworks, FrameworkRecord, log),
    offers: decodeAll('offers', offers, OfferRecord, log),
    tasks: decodeAll('tasks', tasks, TaskRecord, log),
  };
}

function decodeAll<T>(
  registry: string,
  records: ReadonlyMap<string, string>,
  schema: z.ZodType<T>,
  log: Log,
): T[] {
  const decoded: T[] = [];
  for (const [key, text] of records) {
    const result = decodeWith(schema, text);
    if (result.ok) decoded.push(result.value);
    else log.error('registry.bad-record', { registry, key, error: result.message });
  }
  return decoded;
}
