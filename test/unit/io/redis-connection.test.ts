import { describe, expect, test } from '@jest/globals';
import { hidePassword, parseRedisUrl } from '../../../io/redis-connection.ts';
import { codeOf, messageOf } from '../../../protocol/errors.ts';

describe('a Redis address', () => {
  test.each<[string, object]>([
    ['redis://127.0.0.1:6379', { host: '127.0.0.1', port: 6379 }],
    ['redis://cache', { host: 'cache', port: 6379 }],
    ['redis://', { host: '127.0.0.1', port: 6379 }],
    ['redis://cache:7000/3', { host: 'cache', port: 7000, db: 3 }],
    ['redis://[::1]:7000', { host: '::1', port: 7000 }],
    ['redis://:pw@cache', { host: 'cache', port: 6379, password: 'pw' }],
    [
      'redis://ann:p%40ss%2F@cache',
      { host: 'cache', port: 6379, username: 'ann', password: 'p@ss/' },
    ],
    ['rediss://cache', { host: 'cache', port: 6379, tls: {} }],
    ['unix:///run/redis.sock', { path: '/run/redis.sock' }],
    ['unix:///run/my%20redis.sock?db=2', { path: '/run/my redis.sock', db: 2 }],
    [
      'unix://ann:pw@localhost/run/r.sock',
      { path: '/run/r.sock', username: 'ann', password: 'pw' },
    ],
  ])('%s is understood', (url, address) => {
    expect(parseRedisUrl(url)).toEqual(address);
  });

  test.each([
    '',
    'cache:6379',
    '/run/redis.sock',
    'http://cache',
    'redis://cache:port',
    'redis://cache:99999',
    'redis://cache/one',
    'redis://:50%@cache',
    'unix://',
    'unix:///',
    'unix:///run/r.sock?db=x',
  ])('%j is an error that says what would be one', (url) => {
    const error = ((): unknown => {
      try {
        return parseRedisUrl(url);
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(codeOf(error)).toBe('redis-url');
    expect(error).toMatchObject({ hint: expect.stringContaining('redis://HOST:PORT') as unknown });
  });

  test('that is not understood does not show its password', () => {
    expect(() => parseRedisUrl('redis://ann:ge/heim@cache')).toThrow('redis://ann:***@cache');
  });
});

describe('hidePassword', () => {
  test.each([
    ['redis://cache:6379', 'redis://cache:6379'],
    ['redis://:geheim@cache:6379', 'redis://:***@cache:6379'],
    ['redis://ann:geheim@cache', 'redis://ann:***@cache'],
    ['redis://ann@cache', 'redis://ann@cache'],
    ['redis://ann:ge@heim@cache', 'redis://ann:***@cache'],
    ['unix://ann:geheim@localhost/run/r.sock', 'unix://ann:***@localhost/run/r.sock'],
  ])('%s is shown as %s', (url, shown) => {
    expect(hidePassword(url)).toBe(shown);
  });
});

describe('of anything that was thrown', () => {
  test.each<[unknown, string | undefined, string]>([
    [Object.assign(new Error('no'), { code: 'ENOENT' }), 'ENOENT', 'no'],
    [new Error('no'), undefined, 'no'],
    [{ code: 7, message: 'odd' }, undefined, 'odd'],
    ['text', undefined, 'text'],
    [null, undefined, 'null'],
    [undefined, undefined, 'undefined'],
  ])('%p has the code %p and the message %p', (thrown, code, message) => {
    expect([codeOf(thrown), messageOf(thrown)]).toEqual([code, message]);
  });
});
