import { describe, expect, test } from '@jest/globals';
import { CallbackQueue } from '../../../executor/callback-queue.ts';
import { createWatch } from '../../support/watch.ts';

const fail = (error: unknown): void => {
  throw error;
};

describe('callbacks', () => {
  test('are called at once, in order', () => {
    const calls: number[] = [];
    const queue = new CallbackQueue(fail);
    for (const number of [1, 2, 3]) queue.push(() => void calls.push(number));
    expect(calls).toEqual([1, 2, 3]);
  });

  test('that are added by one come after it', () => {
    const calls: string[] = [];
    const queue = new CallbackQueue(fail);
    queue.push(() => {
      queue.push(() => void calls.push('second'));
      calls.push('first');
    });
    expect(calls).toEqual(['first', 'second']);
  });

  test('wait for one that returns a promise', async () => {
    const calls = createWatch<string>();
    const queue = new CallbackQueue(fail);
    let go: () => void = () => undefined;
    queue.push(
      () =>
        new Promise<void>((resolve) => {
          go = resolve;
        }),
    );
    queue.push(() => calls.push('next'));
    expect(calls.seen).toEqual([]);
    go();
    await calls.count(1);
  });

  test('that fail are told, whether they throw or are rejected, and the next ones follow', async () => {
    const told = createWatch<string>();
    const queue = new CallbackQueue((error) => told.push((error as Error).message));
    queue.push(() => {
      throw new Error('thrown');
    });
    queue.push(() => Promise.reject(new Error('rejected')));
    queue.push(() => told.push('next'));
    await told.count(3);
    expect(told.seen).toEqual(['thrown', 'rejected', 'next']);
  });

  test('of a long row let the event loop go on in between', async () => {
    const calls = createWatch<string>();
    const queue = new CallbackQueue(fail);
    const busy = (): void => {
      const endMs = performance.now() + 11;
      while (performance.now() < endMs);
      calls.push('busy');
    };
    setImmediate(() => {
      calls.push('other');
    });
    for (let index = 0; index < 3; index += 1) queue.push(busy);
    await calls.count(4);
    expect(calls.seen.slice(0, 2)).toEqual(['busy', 'other']);
  });
});

describe('a queue that is closed', () => {
  test('calls nothing that waits, and takes nothing', () => {
    const calls: string[] = [];
    const queue = new CallbackQueue(fail);
    queue.push(() => {
      queue.push(() => void calls.push('waiting'));
      queue.close();
    });
    queue.push(() => void calls.push('late'));
    expect(calls).toEqual([]);
  });

  test('calls its last one when the one that is being called has returned', async () => {
    const calls = createWatch<string>();
    const queue = new CallbackQueue(fail);
    let go: () => void = () => undefined;
    queue.push(async () => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      calls.push('long');
    });
    queue.push(() => calls.push('dropped'));
    queue.close(() => calls.push('last'));
    expect(calls.seen).toEqual([]);
    go();
    await calls.count(2);
    expect(calls.seen).toEqual(['long', 'last']);
  });
});
