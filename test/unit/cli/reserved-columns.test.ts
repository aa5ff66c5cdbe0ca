/** What `kaon agents` and `kaon offers` show of reservations. */
import { describe, expect, test } from '@jest/globals';
import { agentColumns } from '../../../cli/commands/agents.ts';
import { offerColumns } from '../../../cli/commands/offers.ts';
import { plain } from '../../../cli/style.ts';
import type { Column } from '../../../cli/table.ts';
import { formatTable } from '../../../cli/table.ts';
import { agentJson, agentRows } from '../../../io/registry-rows.ts';
import type { Cluster } from '../../../io/registry.ts';
import type { OfferRecord } from '../../../protocol/records.ts';

const of = (cpus: number, gib: number): { cpuMillis: number; memMib: number } => ({
  cpuMillis: cpus * 1000,
  memMib: gib * 1024,
});
const reservation = (reservationId: string, role: string, resources: object): object => ({
  ...{ reservationId, role, resources, labels: {}, isStatic: false },
});
const agent = (agentId: string, reservations: object[], fixed: object[] = []): object => ({
  state: 'active',
  registeredAtMs: 0,
  info: { agentId, hostname: agentId, resources: of(16, 64), reservations: fixed },
  reservations,
});
const clusterOf = (...agents: object[]): Cluster =>
  ({ agents, tasks: [], executors: [], offers: [] }) as unknown as Cluster;
const row = (record: object) => {
  const [only] = agentRows(clusterOf(record));
  if (!only) throw new Error('no row');
  return only;
};
const cells = <T>(columns: readonly Column<T>[], one: T): Record<string, string> =>
  Object.fromEntries(columns.map(({ title, text }) => [title, text(one)]));

describe('an agent', () => {
  const stacked = agent(
    'a1',
    [
      reservation('r1', 'eng', of(8, 32)),
      { ...reservation('r2', 'eng/prod', of(2, 8)), parentId: 'r1' },
      reservation('r3', 'ops', { ...of(1, 0), others: { gpus: 2 } }),
    ],
    [{ role: 'eng', resources: of(1, 1) }],
  );
  const shown = (record: object): string | undefined => {
    const shows = { isWide: false, hasReserved: true };
    return cells(agentColumns(plain, 0, shows), row(record))['RESERVED'];
  };

  test('shows what is kept for each role, each amount once', () => {
    expect(shown(stacked)).toBe('eng: 7 cpus, 25G; eng/prod: 2 cpus, 8G; ops: 1 cpus, 0B, gpus 2');
  });

  test('has the same for programs', () => {
    expect(agentJson(row(stacked))).toMatchObject({
      reserved: {
        eng: of(7, 25),
        'eng/prod': of(2, 8),
        ops: { ...of(1, 0), others: { gpus: 2 } },
      },
    });
    expect(agentJson(row(agent('a2', [])))).toMatchObject({ reserved: {} });
  });

  test('does not show a role of whose reservation all is reserved further', () => {
    const all = [
      reservation('r1', 'eng', of(8, 32)),
      { ...reservation('r2', 'eng/prod', of(8, 32)), parentId: 'r1' },
    ];
    expect(shown(agent('a1', all))).toBe('eng/prod: 8 cpus, 32G');
  });

  test('has a dash where nothing is reserved, and no such column where nothing is on any', () => {
    expect(shown(agent('a2', []))).toBe('-');
    const titles = agentColumns(plain, 0, { isWide: true, hasReserved: false });
    expect(titles.map(({ title }) => title)).not.toContain('RESERVED');
  });

  test('keeps to the width of a terminal', () => {
    const columns = agentColumns(plain, 0, { isWide: false, hasReserved: true });
    const table = formatTable(columns, [row(stacked)], { width: 100, paint: plain });
    expect(Math.max(...table.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(table).toContain('RESERVED');
  });
});

describe('an offer', () => {
  const offer = (more: object): OfferRecord =>
    ({
      ...{ offerId: 'o1', frameworkId: 'f1', role: 'eng/prod', agentId: 'a1' },
      ...{ resources: of(1, 1), madeAtMs: 0, expiresAtMs: 30_000 },
      ...more,
    }) as unknown as OfferRecord;

  test('shows which reservation it is of, or a dash', () => {
    const columns = offerColumns(0, true);
    const reserved = { reservation: { reservationId: 'r1.k3x9.17', role: 'eng', labels: {} } };
    expect(cells(columns, offer(reserved))['RESERVATION']).toBe('r1.k3x9.17');
    expect(cells(columns, offer({}))['RESERVATION']).toBe('-');
  });

  test('has no such column where no offer is of a reservation', () => {
    expect(offerColumns(0, false).map(({ title }) => title)).not.toContain('RESERVATION');
  });
});
