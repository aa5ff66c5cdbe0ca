import { describe, expect, test } from '@jest/globals';
import { randomName, systemClock } from '../../../io/clock.ts';
import { SessionId } from '../../../protocol/ids.ts';

describe('a sleep', () => {
  test('that is aborted ends at once', async () => {
    const abort = new AbortController();
    const sleeping = systemClock.sleep(60_000, abort.signal);
    abort.abort();
    await expect(sleeping).resolves.toBeUndefined();
  });

  test('that was aborted before does not begin', async () => {
    await expect(systemClock.sleep(60_000, AbortSignal.abort())).resolves.toBeUndefined();
  });

  test('of nothing ends', async () => {
    await expect(systemClock.sleep(0)).resolves.toBeUndefined();
  });
});

describe('a random name', () => {
  test('may be an id', () => {
    expect(SessionId.safeParse(randomName(20)).success).toBe(true);
  });

  test('has the length that was asked for, and no letter that looks like another', () => {
    expect(randomName(200)).toMatch(/^[a-km-np-z2-9]{200}$/);
  });
});
