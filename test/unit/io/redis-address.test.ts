import { describe, expect, test } from '@jest/globals';
import { redisAddressOf } from '../../../io/redis-address.ts';

describe('the address of Redis', () => {
  test.each([
    [{}, {}, 'redis://127.0.0.1:6379'],
    [{}, { KAON_REDIS: '' }, 'redis://127.0.0.1:6379'],
    [{}, { KAON_REDIS: 'redis://a' }, 'redis://a'],
    [{ redis: 'redis://b' }, { KAON_REDIS: 'redis://a' }, 'redis://b'],
    [{ redis: 'rediss://b', ca: '/ca' }, {}, 'rediss://b?ca=/ca'],
    [{}, { KAON_REDIS: 'rediss://a', KAON_REDIS_CA: '/ca' }, 'rediss://a?ca=/ca'],
    [
      { cert: '/new' },
      { KAON_REDIS: 'rediss+sentinel://a/m', KAON_REDIS_CERT: '/old', KAON_REDIS_KEY: '/key' },
      'rediss+sentinel://a/m?cert=/new&key=/key',
    ],
    [{ redis: 'unix:///r.sock' }, { KAON_REDIS_CA: '/ca' }, 'unix:///r.sock'],
  ])('given %j and with %j in the environment is %s', (given, environment, url) => {
    expect(redisAddressOf(given, environment)).toBe(url);
  });

  test.each([
    [{ redis: 'redis://a', ca: '/ca' }, {}, '--redis-ca /ca'],
    [{ redis: 'unix:///r.sock', key: '/key' }, {}, '--redis-key /key'],
    [{}, { KAON_REDIS_CERT: '/cert' }, 'KAON_REDIS_CERT /cert'],
  ])('without TLS has no certificates: %j, %j', (given, environment, what) => {
    expect(() => redisAddressOf(given, environment)).toThrow(
      `${what}: the address of Redis is one without TLS`,
    );
  });
});
