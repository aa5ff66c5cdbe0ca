import { expect, test } from '@jest/globals';
import { createJobWaits } from '../../../systemd/jobs.ts';
import { createSlots } from '../../../systemd/slots.ts';

const LONG_MS = 60_000;

test('a job that ended before its reply came is not waited for', async () => {
  const jobs = createJobWaits(LONG_MS);
  const result = await jobs.run(() => {
    jobs.removed('/job/1', 'done');
    return Promise.resolve('/job/1');
  });
  expect(result).toBe('done');
});

test('a job that ends after its reply settles its own wait alone', async () => {
  const jobs = createJobWaits(LONG_MS);
  const results = Promise.all([jobs.wait('/job/1'), jobs.wait('/job/2')]);
  jobs.removed('/job/2', 'failed');
  jobs.removed('/job/1', 'done');
  expect(await results).toEqual(['done', 'failed']);
});

test('a loss of signals during the call or the wait makes the result unknown', async () => {
  const jobs = createJobWaits(LONG_MS);
  const duringCall = await jobs.run(() => {
    jobs.giveUp();
    return Promise.resolve('/job/1');
  });
  const duringWait = jobs.wait('/job/2');
  jobs.giveUp();
  expect([duringCall, await duringWait]).toEqual(['unknown', 'unknown']);
});

test('a call that fails rejects as it failed', async () => {
  const failure = new Error('refused');
  await expect(createJobWaits(LONG_MS).run(() => Promise.reject(failure))).rejects.toBe(failure);
});

test('work that wants to be alone waits for those inside and holds up those behind', async () => {
  const slots = createSlots(2);
  const order: string[] = [];
  const leave = await slots.enter();
  const alone = slots.alone(() => {
    order.push('alone');
    return Promise.resolve();
  });
  const behind = slots.enter().then(() => order.push('behind'));
  order.push('inside');
  leave();
  await Promise.all([alone, behind]);
  expect(order).toEqual(['inside', 'alone', 'behind']);
});
