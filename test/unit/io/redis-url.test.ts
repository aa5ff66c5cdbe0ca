import { describe, expect, test } from '@jest/globals';
import { hidePassword, parseRedisUrl, withTlsPaths } from '../../../io/redis-url.ts';
import { codeOf } from '../../../protocol/errors.ts';

const thrownBy = (url: string): unknown => {
  try {
    return parseRedisUrl(url);
  } catch (thrown) {
    return thrown;
  }
};

describe('an address with Sentinel or Cluster', () => {
  test.each<[string, object]>([
    [
      'redis+sentinel://s1:26380,s2/main',
      {
        sentinels: [
          { host: 's1', port: 26380 },
          { host: 's2', port: 26379 },
        ],
        name: 'main',
      },
    ],
    [
      'redis+sentinel://ann:p%40w@[::1]:7000/main/2?sentinelUsername=bob&sentinelPassword=x%26y',
      {
        sentinels: [{ host: '::1', port: 7000 }],
        name: 'main',
        db: 2,
        username: 'ann',
        password: 'p@w',
        sentinelUsername: 'bob',
        sentinelPassword: 'x&y',
      },
    ],
    [
      'rediss+sentinel://:pw@s1/main',
      { sentinels: [{ host: 's1', port: 26379 }], name: 'main', password: 'pw', tls: {} },
    ],
    [
      'redis+cluster://n1:7000,n2:7001,n3',
      {
        nodes: [
          { host: 'n1', port: 7000 },
          { host: 'n2', port: 7001 },
          { host: 'n3', port: 6379 },
        ],
      },
    ],
    [
      'rediss+cluster://ann:pw@n1:7000/',
      { nodes: [{ host: 'n1', port: 7000 }], username: 'ann', password: 'pw', tls: {} },
    ],
  ])('%s is understood', (url, address) => {
    expect(parseRedisUrl(url)).toEqual(address);
  });

  test.each([
    ['redis+sentinel://s1:26379', 'the name by which the Sentinels know the master is missing'],
    ['redis+sentinel:///main', '"" is not a HOST:PORT'],
    ['redis+sentinel://s1,,s2/main', '"" is not a HOST:PORT'],
    ['redis+sentinel://s1/main/one', 'a database is a number'],
    ['redis+sentinel://s1/main/1/2', 'after the name of the master comes a database at most'],
    ['redis+sentinel://s1/main?password=geheim', '"password" is not a setting of it'],
    ['redis+cluster://n1:0', '"n1:0" is not a HOST:PORT'],
    ['redis+cluster://n1/1', 'a Redis Cluster has one database'],
    ['redis+cluster://n1?sentinelPassword=x', '"sentinelPassword" is not a setting of it'],
    ['redis+magic://n1', 'redis+magic:// is not a scheme of Redis'],
    ['redis://n1,n2', 'several hosts need redis+sentinel:// or redis+cluster://'],
    ['redis://n1?ca=/x', 'ca need rediss, the form with TLS'],
    ['rediss://n1?cert=/x', 'cert and key go together'],
  ])('%s is an error: %s', (url, why) => {
    const error = thrownBy(url);
    expect(codeOf(error)).toBe('redis-url');
    expect(String(error)).toContain(`: ${why}`);
    expect(String(error)).not.toContain('geheim');
  });
});

describe('the certificates of an address', () => {
  test('are paths', () => {
    const { tls } = parseRedisUrl('rediss://cache?ca=/a/ca.crt&cert=/a/b.crt&key=/a/b.key');
    expect(tls).toEqual({ ca: '/a/ca.crt', cert: '/a/b.crt', key: '/a/b.key' });
  });

  test('from elsewhere become part of it, instead of its own', () => {
    const url = withTlsPaths('rediss://ann@c1/3?ca=/old&db=1', { ca: '/new dir/ca&.crt' });
    expect(url).toBe('rediss://ann@c1/3?ca=/new+dir/ca%26.crt&db=1');
    expect(parseRedisUrl(url)).toMatchObject({ username: 'ann', tls: { ca: '/new dir/ca&.crt' } });
  });

  test('leave an address alone if there are none', () => {
    expect(withTlsPaths('rediss://c1', {})).toBe('rediss://c1');
  });
});

describe('hidePassword', () => {
  test.each([
    ['redis+sentinel://ann:geheim@s1:1,s2:2/main', 'redis+sentinel://ann:***@s1:1,s2:2/main'],
    [
      'redis+sentinel://s1/main?sentinelPassword=ge@heim&sentinelUsername=bob',
      'redis+sentinel://s1/main?sentinelPassword=***&sentinelUsername=bob',
    ],
    [
      'rediss+cluster://:geheim@n1:1,n2:2?ca=/etc/ca.pem&key=/etc/key.pem',
      'rediss+cluster://:***@n1:1,n2:2',
    ],
    ['redis://ann:ge?he?im@c1', 'redis://ann:***@c1'],
    ['rediss://ann:geheim@c1?ca=/a&db=3&cert=/b', 'rediss://ann:***@c1?db=3'],
    ['redis+cluster://n1:1,n2:2', 'redis+cluster://n1:1,n2:2'],
  ])('%s is shown as %s', (url, shown) => {
    expect(hidePassword(url)).toBe(shown);
  });
});
