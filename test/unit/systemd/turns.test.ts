import { expect, test } from '@jest/globals';
import { createTurns } from '../../../systemd/turns.ts';

/** Work that ends when it is told to. */
function work(): { readonly run: () => Promise<void>; isRunning: boolean; end: () => void } {
  const self = {
    isRunning: false,
    end: (): void => undefined,
    run: () =>
      new Promise<void>((resolve) => {
        self.isRunning = true;
        self.end = () => {
          self.isRunning = false;
          resolve();
        };
      }),
  };
  return self;
}

test('work on one thing waits for what was asked for before', async () => {
  const inTurn = createTurns();
  const [first, second] = [work(), work()];
  const ends = [inTurn('a', first.run), inTurn('a', second.run)];
  expect([first.isRunning, second.isRunning]).toEqual([true, false]);
  first.end();
  await ends[0];
  expect(second.isRunning).toBe(true);
  second.end();
  await ends[1];
});

test('work on different things runs at the same time', async () => {
  const inTurn = createTurns();
  const [first, second] = [work(), work()];
  const ends = [inTurn('a', first.run), inTurn('b', second.run)];
  expect([first.isRunning, second.isRunning]).toEqual([true, true]);
  first.end();
  second.end();
  await Promise.all(ends);
});

test('a failure is told to who asked for that work, and holds nobody up', async () => {
  const inTurn = createTurns();
  const failing = inTurn('a', () => Promise.reject(new Error('no')));
  const next = inTurn('a', () => Promise.resolve('done'));
  await expect(failing).rejects.toThrow('no');
  expect(await next).toBe('done');
});
