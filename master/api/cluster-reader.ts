/**
 * Reads the registry for many who ask at once: one reading at a time, and whoever comes while it is under way shares the
 * next one. So nobody gets less than what was there when he asked, and the leader is not kept from leading.
 */
import { readCluster } from '../../io/registry.ts';
import type { Cluster, RegistrySource } from '../../io/registry.ts';

/** @returns a function that reads the registry of `source`; rejects as `readCluster` does */
export function sharedReader(source: RegistrySource): () => Promise<Cluster> {
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<Cluster> | undefined;
  return () => {
    next ??= running.then(() => {
      const reading = readCluster(source);
      next = undefined;
      running = reading.catch(() => undefined);
      return reading;
    });
    return next;
  };
}
