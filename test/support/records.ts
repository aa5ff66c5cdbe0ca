/** Registry writes back to records, as a new leader reads them: through the production decoder. */
import { silentLog } from '../../io/log.ts';
import { decodeSnapshot } from '../../master/load.ts';
import type { RegistryRecords } from '../../protocol/records.ts';
import type { RegistryName } from '../../protocol/keys.ts';
import { REGISTRY_NAMES } from '../../protocol/keys.ts';

/** @param stored JSON of each record, keyed by `REGISTRY KEY` */
export function recordsOf(stored: ReadonlyMap<string, string>): RegistryRecords {
  const of = (name: RegistryName): Map<string, string> =>
    new Map(
      [...stored]
        .filter(([key]) => key.startsWith(`${name} `))
        .map(([key, value]) => [key.slice(name.length + 1), value]),
    );
  const registry = Object.fromEntries(REGISTRY_NAMES.map((name) => [name, of(name)]));
  return decodeSnapshot(
    {
      registry: registry as Record<RegistryName, Map<string, string>>,
    },
    silentLog,
  );
}
