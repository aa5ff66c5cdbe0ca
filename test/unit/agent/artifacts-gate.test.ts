import { expect, test } from '@jest/globals';
import { Gate } from '../../../agent/artifacts/gate.ts';

const never = (): AbortSignal => new AbortController().signal;

/** Something that goes on until it is told to end. */
function openTask(): { run: () => Promise<void>; end: () => void; readonly began: boolean } {
  let end = (): void => undefined;
  let began = false;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const run = (): Promise<void> => {
    began = true;
    return ended;
  };
  return {
    run,
    end,
    get began() {
      return began;
    },
  };
}

test('so many run at a time, and the next in their order', async () => {
  const gate = new Gate(2);
  const tasks = [openTask(), openTask(), openTask(), openTask()];
  const runs = tasks.map(({ run }) => gate.run(run, never()));
  await Promise.resolve();
  const before = tasks.map(({ began }) => began);
  tasks[1]?.end();
  await runs[1];
  await Promise.resolve();
  const after = tasks.map(({ began }) => began);
  for (const { end } of tasks) end();
  await Promise.all(runs);
  expect([before, after, gate.isIdle]).toEqual([
    [true, true, false, false],
    [true, true, true, false],
    true,
  ]);
});

test('who is cancelled while waiting is let through no more, and takes nobody’s place', async () => {
  const gate = new Gate(1);
  const [first, second, third] = [openTask(), openTask(), openTask()];
  const cancel = new AbortController();
  const one = gate.run(first.run, never());
  const two = gate.run(second.run, cancel.signal);
  const three = gate.run(third.run, never());
  cancel.abort();
  await expect(two).rejects.toMatchObject({ code: 'artifact-cancelled' });
  first.end();
  await one;
  third.end();
  await three;
  expect([second.began, third.began, gate.isIdle]).toEqual([false, true, true]);
});

test('what fails makes room, too', async () => {
  const gate = new Gate(1);
  const failed = gate.run(() => Promise.reject(new Error('broken')), never());
  await expect(failed).rejects.toThrow('broken');
  expect(gate.isIdle).toBe(true);
});
