import { describe, expect, test } from '@jest/globals';
import { addressAs, joinLineOf, parseJoinLine } from '../../../io/join-line.ts';

const join = {
  redis: 'rediss://kaon.agent.n1~prod@10.0.0.5:6379',
  cluster: 'prod',
  agentId: 'n1',
  redisUser: 'kaon.agent.n1~prod',
  redisPassword: 'secret',
};

describe('a join line', () => {
  test('is one word that says what was put into it', () => {
    const whole = { ...join, token: 'kaon1_x', caPem: '-----BEGIN CERTIFICATE-----\nä\n' };
    for (const said of [join, whole]) {
      const line = joinLineOf(said);
      expect(line).toMatch(/^kaon-join1\.[A-Za-z0-9_-]+$/);
      expect(parseJoinLine(`  ${line}\n`)).toEqual(said);
    }
  });

  test.each([
    '',
    'kaon-join1.',
    'kaon-join2.e30',
    'kaon-join1.e30',
    joinLineOf(join).slice(0, 60),
    joinLineOf({ ...join, agentId: '' }),
  ])('is not %j', (line) => {
    expect(parseJoinLine(line)).toBeUndefined();
  });
});

test.each([
  ['redis://10.0.0.5:6379', 'redis://u@10.0.0.5:6379'],
  ['redis://default:pw@10.0.0.5:6379/2', 'redis://u@10.0.0.5:6379/2'],
  ['unix://default:pw@/run/redis.sock?db=1', 'unix://u@/run/redis.sock?db=1'],
  ['rediss://h:1?ca=/ca.pem&cert=/c.pem&key=/k.pem', 'rediss://u@h:1'],
  [
    'rediss+sentinel://a:b@h:1,g:2/main?ca=/ca.pem&sentinelUsername=s',
    'rediss+sentinel://u@h:1,g:2/main?sentinelUsername=s',
  ],
])('the address %s is %s for another user, elsewhere', (url, expected) => {
  expect(addressAs(url, 'u')).toBe(expected);
});
