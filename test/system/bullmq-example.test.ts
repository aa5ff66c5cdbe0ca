/** The report farm of examples/bullmq on three real nodes: heavy and light jobs of one queue, each within its limits. */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';
import { type KaonOutcome, runKaonFarm } from '../beds/report-farm.ts';

const REPORTS = { light: 12, heavy: 4 };
const MINUTES_MS = 60_000;

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

suite(`the report farm${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let outcome: KaonOutcome;

  beforeAll(async () => {
    outcome = await runKaonFarm(REPORTS);
  }, 3 * MINUTES_MS);

  test('finishes all reports, and loses none', () => {
    expect(outcome).toMatchObject({ finished: 16, failed: 0, lost: 0, reasons: [] });
  });

  test('does the heavy and the light ones of the same queue', () => {
    expect(outcome.finishedByName).toEqual(REPORTS);
  });

  test('holds each report within its own memory, of which the heavy ones asked for more', () => {
    const uses = outcome.tasks.map(({ status }) => status?.certificate);
    expect(uses).toHaveLength(16);
    for (const use of uses) {
      expect(use?.memoryPeakBytes).toBeLessThanOrEqual(use?.memoryLimitBytes ?? 0);
    }
    expect(new Set(uses.map((use) => (use?.memoryLimitBytes ?? 0) / 1_048_576))).toEqual(
      new Set([64, 384]),
    );
    expect(outcome.oomKills).toBe(0);
  });

  test('really needs the memory that the heavy ones asked for', () => {
    const peaks = outcome.tasks.map(({ status }) => status?.certificate?.memoryPeakBytes ?? 0);
    expect(peaks.filter((bytes) => bytes > 300 * 1_048_576)).toHaveLength(REPORTS.heavy);
  });
});
