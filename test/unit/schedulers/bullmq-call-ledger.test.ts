import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Job } from 'bullmq';
import { silentLog } from '../../../io/log.ts';
import {
  addCall,
  createCallLedger,
  resendAtMs,
  takeAnswered,
  takeSendable,
  unansweredOf,
  type CallLedger,
} from '../../../schedulers/bullmq/core/call-ledger.ts';
import { splitIntoFrames } from '../../../schedulers/bullmq/core/frames.ts';
import { ProcessorCalls } from '../../../schedulers/bullmq/processor-calls.ts';
import type { Frame, ProcessorCall } from '../../../schedulers/bullmq/processor-messages.ts';

const log = (...rows: string[]): ProcessorCall => ({ call: 'log', rows });
const progress = (value: number): ProcessorCall => ({ call: 'updateProgress', value });
const ASK: ProcessorCall = { call: 'getChildrenValues' };

/** A ledger whose first call is under way. */
function busyLedger(): CallLedger<ProcessorCall> {
  const ledger = createCallLedger<ProcessorCall>();
  addCall(ledger, ASK, 1);
  takeSendable(ledger, 0);
  return ledger;
}

const waitingOf = (ledger: CallLedger<ProcessorCall>): ProcessorCall[] =>
  unansweredOf(ledger)
    .slice(1)
    .map(({ call }) => call);

describe('a call', () => {
  test('is sent at once if none is under way', () => {
    const ledger = createCallLedger<ProcessorCall>();
    addCall(ledger, log('a'));
    expect(takeSendable(ledger, 0)).toEqual({ sequence: 1, call: log('a') });
    expect(takeSendable(ledger, 0)).toBeUndefined();
  });

  test('waits for the answer to the one before', () => {
    const ledger = busyLedger();
    addCall(ledger, log('a'));
    expect(takeSendable(ledger, 0)).toBeUndefined();
    expect(takeAnswered(ledger, 1)).toEqual({ askId: 1 });
    expect(takeSendable(ledger, 0)).toEqual({ sequence: 2, call: log('a') });
  });

  test('is sent again after 1, 2, 4, 8 and then each 10 s', () => {
    const ledger = busyLedger();
    const sentAtMs: number[] = [];
    for (let count = 0; count < 6; count += 1) {
      const dueMs = resendAtMs(ledger) ?? NaN;
      expect(takeSendable(ledger, dueMs - 1)).toBeUndefined();
      expect(takeSendable(ledger, dueMs)).toEqual({ sequence: 1, call: ASK });
      sentAtMs.push(dueMs);
    }
    expect(sentAtMs).toEqual([1000, 3000, 7000, 15_000, 25_000, 35_000]);
  });

  test('is answered once', () => {
    const ledger = busyLedger();
    takeAnswered(ledger, 1);
    expect(takeAnswered(ledger, 1)).toBeUndefined();
    expect(takeAnswered(ledger, 2)).toBeUndefined();
    expect(resendAtMs(ledger)).toBeUndefined();
  });
});

describe('calls that wait', () => {
  test('are joined if they are rows of log', () => {
    const ledger = busyLedger();
    for (const row of ['a', 'b', 'c']) addCall(ledger, log(row));
    expect(waitingOf(ledger)).toEqual([log('a', 'b', 'c')]);
  });

  test('of progress are replaced by newer ones, past rows of log', () => {
    const ledger = busyLedger();
    for (const call of [progress(1), log('a'), progress(2), log('b')]) addCall(ledger, call);
    expect(waitingOf(ledger)).toEqual([progress(2), log('a', 'b')]);
  });

  test('do not pass one that asks', () => {
    const ledger = busyLedger();
    addCall(ledger, log('a'));
    addCall(ledger, ASK, 2);
    addCall(ledger, log('b'));
    expect(waitingOf(ledger)).toEqual([log('a'), ASK, log('b')]);
  });

  test('leave those alone that are under way', () => {
    const ledger = createCallLedger<ProcessorCall>();
    addCall(ledger, log('a'));
    takeSendable(ledger, 0);
    addCall(ledger, log('b'));
    expect(unansweredOf(ledger)).toEqual([
      { sequence: 1, call: log('a') },
      { sequence: 2, call: log('b') },
    ]);
  });

  test('of rows that are too much are counted instead', () => {
    const ledger = busyLedger();
    for (let index = 0; index < 5; index += 1) addCall(ledger, log('x'.repeat(500_000)));
    const [call] = waitingOf(ledger);
    const rows = call?.call === 'log' ? call.rows : [];
    expect(rows.map((row) => row.length)).toEqual([500_000, 500_000, expect.any(Number)]);
    expect(rows[2]).toMatch(/^\(3 rows of log were dropped/);
  });
});

/** What may happen to a message on its way, and when. */
type Fate = 'arrives' | 'lost' | 'twice' | 'late';

test('every call is done once and in order, whatever is lost or comes twice', async () => {
  const fate = fc.constantFrom<Fate>('arrives', 'lost', 'twice', 'late');
  const rows = fc.array(fc.boolean(), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(rows, fc.infiniteStream(fate), fc.nat(8), async (asks, fates, answered) => {
      const done: string[] = [];
      const toExecutor: string[] = [];
      const calls = new ProcessorCalls({
        log: silentLog,
        send: (_taskId, data) => toExecutor.push(data),
        noteMoved: () => Promise.resolve(),
      });
      calls.track('t1', notingJob(done), 'token');
      const ledger = createCallLedger<ProcessorCall>();
      asks.forEach((isAsk, index) => {
        if (isAsk) addCall(ledger, { call: 'updateData', data: String(index) }, index);
        else addCall(ledger, log(String(index)), index);
      });
      const late: string[] = [];
      let nowMs = 0;
      for (let round = 0; round < answered * 4; round += 1) {
        const next = takeSendable(ledger, (nowMs += 10_000));
        const address = { taskId: 't1', sequence: next?.sequence ?? 0 };
        const frames = next ? splitIntoFrames(address, JSON.stringify(next)) : [];
        for (const frame of [...late.splice(0), ...frames]) {
          deliver(fates.next().value, frame, late, (data) => {
            calls.receive(data);
          });
        }
        await new Promise(setImmediate);
        for (const data of toExecutor.splice(0)) {
          deliver(fates.next().value, data, [], (text) => {
            takeAnswered(ledger, (JSON.parse(text) as Frame).sequence);
          });
        }
      }
      // What is left travels with the last update; late messages come after it.
      const end = JSON.stringify({ calls: unansweredOf(ledger) });
      await calls.finish('t1', end);
      for (const frame of late) calls.receive(frame);
      await calls.finish('t1', end);
      expect(done).toEqual(
        asks.map((isAsk, index) => `${isAsk ? 'data' : 'log'} ${String(index)}`),
      );
    }),
    { numRuns: 200 },
  );
});

function deliver(
  fate: Fate | undefined,
  frame: string,
  late: string[],
  take: (data: string) => void,
): void {
  if (fate === 'late') late.push(frame);
  if (fate === 'arrives' || fate === 'twice') take(frame);
  if (fate === 'twice') take(frame);
}

function notingJob(done: string[]): Job {
  return {
    log: async (row: string) => {
      done.push(`log ${row}`);
    },
    updateData: async (data: string) => {
      // Slower than a row of log, and still under way when the next things happen.
      for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
      done.push(`data ${data}`);
    },
  } as unknown as Job;
}
