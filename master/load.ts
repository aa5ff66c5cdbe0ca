/**
 * From the registry in Redis to the core's state. A record that cannot be read is named, moved into quarantine, and left
 * out: what it said is rebuilt from the agents and frameworks. A registry of a newer Kaon is left alone altogether.
 */
import type { Log } from '../io/log.ts';
import type { Snapshot } from '../io/store.ts';
import type { Decoded } from '../protocol/codec.ts';
import { decoderOf, decodeWith } from '../protocol/codec.ts';
import { KaonError } from '../protocol/errors.ts';
import type { ClientName, RegistryName } from '../protocol/keys.ts';
import {
  AgentRecord,
  ClusterRecord,
  ExecutorRecord,
  FrameworkRecord,
  OfferRecord,
  REGISTRY_FORMAT,
  TaskRecord,
} from '../protocol/records.ts';
import { RoleRecord } from '../protocol/roles.ts';
import { z } from 'zod';
import type { RegistryRecords } from '../protocol/records.ts';

/** What each registry holds; compiled, because a large cluster has tens of thousands of records. */
const decoders = {
  cluster: decoderOf(ClusterRecord),
  roles: decoderOf(RoleRecord),
  agents: decoderOf(AgentRecord),
  frameworks: decoderOf(FrameworkRecord),
  offers: decoderOf(OfferRecord),
  executors: decoderOf(ExecutorRecord),
  tasks: decoderOf(TaskRecord),
};

/** A record that cannot be read, as it was found. */
export interface BadRecord {
  readonly registry: RegistryName;
  readonly key: string;
  readonly value: string;
  readonly error: string;
}

/** What could be read, in the order of the registry, and what could not. */
export interface LoadedRecords extends RegistryRecords {
  readonly bad: readonly BadRecord[];
}

/** Takes the seal off a record; undefined: no master of this cluster has written it. */
export type Unseal = (registry: RegistryName, key: string, value: string) => string | undefined;

const NOT_SEALED = {
  ok: false,
  message:
    'it is not sealed with the cluster key: written by somebody else, or before there was one',
} as const;

/** So many records are decoded before whoever asked may do something else: some 15 ms. */
const RECORDS_A_PART = 1000;

/** @throws KaonError `registry-too-new` if a newer Kaon has written it: to go on would destroy what it means */
export function decodeSnapshot(snapshot: Pick<Snapshot, 'registry'>, log: Log): LoadedRecords {
  const parts = decodeInParts(snapshot, log);
  for (;;) {
    const part = parts.next();
    if (part.done === true) return part.value;
  }
}

/**
 * `decodeSnapshot` in steps, of `RECORDS_A_PART` records each: between them a lease can be renewed, which the decoding of
 * a large registry in one go would keep waiting until it is lost.
 */
export function* decodeInParts(
  { registry }: Pick<Snapshot, 'registry'>,
  log: Log,
  unseal: Unseal = (_name, _key, value) => value,
): Generator<undefined, LoadedRecords, undefined> {
  refuseNewer(registry.cluster.get('state'));
  const bad: BadRecord[] = [];
  const all = function* <T>(
    name: RegistryName,
    decode: (text: string) => Decoded<T>,
  ): Generator<undefined, T[], undefined> {
    const decoded: T[] = [];
    let seen = 0;
    for (const [key, value] of registry[name]) {
      if (seen > 0 && seen % RECORDS_A_PART === 0) yield;
      seen += 1;
      const text = unseal(name, key, value);
      const result = text === undefined ? NOT_SEALED : decode(text);
      if (result.ok) {
        decoded.push(result.value);
        continue;
      }
      log.error('registry.bad-record', { registry: name, key, error: result.message });
      bad.push({ registry: name, key, value, error: result.message });
    }
    return decoded;
  };
  return {
    cluster: yield* all('cluster', decoders.cluster),
    roles: yield* all('roles', decoders.roles),
    agents: yield* all('agents', decoders.agents),
    frameworks: yield* all('frameworks', decoders.frameworks),
    offers: yield* all('offers', decoders.offers),
    executors: yield* all('executors', decoders.executors),
    tasks: yield* all('tasks', decoders.tasks),
    bad,
  };
}

/** Clients whose own records are bad: their sessions belong to nobody. */
export function unreadableClients(bad: readonly BadRecord[]): ClientName[] {
  return bad.flatMap(({ registry, key }): ClientName[] => {
    if (registry === 'agents') return [`agent:${key}`];
    return registry === 'frameworks' ? [`framework:${key}`] : [];
  });
}

function refuseNewer(cluster: string | undefined): void {
  if (cluster === undefined) return;
  const decoded = decodeWith(z.object({ format: z.int() }), cluster);
  if (!decoded.ok || decoded.value.format <= REGISTRY_FORMAT) return;
  throw new KaonError(
    'registry-too-new',
    `the registry has format ${String(decoded.value.format)}, written by a newer Kaon; this one knows ${String(REGISTRY_FORMAT)} and has changed nothing`,
    { hint: 'upgrade this master, or stop it and let the newer ones lead' },
  );
}
