import { describe, expect, test } from '@jest/globals';
import type { AclRole } from '../../../io/acl.ts';
import {
  ACL_ROLES,
  aclRulesOf,
  hashedPassword,
  newRedisPassword,
  problemOfName,
  redisUserOf,
  subjectOfUser,
} from '../../../io/acl.ts';
import { aclCommand, aclFileLine } from '../../../io/acl-users.ts';

const subjectOf = (role: AclRole, name = 'n1'): Parameters<typeof aclRulesOf>[0] => ({
  role,
  name,
  cluster: 'prod',
});

describe('the rules of a role', () => {
  test.each(ACL_ROLES)('%s: begin with nothing, and allow no category of commands', (role) => {
    const rules = aclRulesOf(subjectOf(role));
    expect(rules.slice(0, 3)).toEqual(['-@all', 'resetkeys', 'resetchannels']);
    expect(rules.slice(1).filter((rule) => rule.includes('@'))).toEqual([]);
    expect(rules.filter((rule) => /[~&]\*|allkeys|allchannels|allcommands/.test(rule))).toEqual([]);
  });

  test.each(ACL_ROLES)('%s: keys are those of its cluster, or of BullMQ', (role) => {
    const keys = aclRulesOf(subjectOf(role)).flatMap((rule) => rule.match(/[~&]\S+/g) ?? []);
    const foreign = keys.filter((key) => !/^[~&](?:kaon:\{prod\}:|bull(?:-kaon)?:\*)/.test(key));
    expect(foreign).toEqual([]);
    expect(keys.length).toBeGreaterThan(0);
  });

  test.each(['agent', 'framework', 'viewer', 'operator'] as const)(
    '%s: loads no script and runs the text of none',
    (role) => {
      const words = aclRulesOf(subjectOf(role)).join(' ').split(/[ ()]/);
      expect(words.filter((word) => /^\+(?:eval|script|function|fcall)/.test(word))).toEqual(
        role === 'viewer' ? [] : ['+evalsha'],
      );
    },
  );

  test('an agent may write what belongs to it and to nobody whose name only begins like its own', () => {
    const rules = aclRulesOf(subjectOf('agent', 'a1')).join(' ');
    expect(rules.match(/agent:[^\s)]*/g)?.every((key) => key.startsWith('agent:a1:'))).toBe(true);
  });
});

describe('a user of Redis', () => {
  test('is named after its role, name and cluster, and can be told from its name', () => {
    const subject = subjectOf('agent', 'node-1.example');
    expect(redisUserOf(subject)).toBe('kaon.agent.node-1.example~prod');
    expect(subjectOfUser(redisUserOf(subject), 'prod')).toEqual(subject);
    expect(encodeURIComponent(redisUserOf(subject))).toBe(redisUserOf(subject));
  });

  test.each([
    'default',
    'kaon.agent.n1~other',
    'kaon.robber.n1~prod',
    'kaon.agent.~prod',
    'kaon.agent.n1',
  ])('%s is none of this cluster', (user) => {
    expect(subjectOfUser(user, 'prod')).toBeUndefined();
  });

  test('has a password of 32 random bytes, of which Redis gets the digest', () => {
    const password = newRedisPassword();
    expect(Buffer.from(password, 'base64url')).toHaveLength(32);
    expect(newRedisPassword()).not.toBe(password);
    expect(hashedPassword('secret')).toBe(
      '#2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b',
    );
  });

  test('is a line of a file, or a command that a shell and redis-cli take as it is', () => {
    const hash = hashedPassword('secret');
    const line = aclFileLine(subjectOf('viewer', 'ann'), hash);
    expect(line).toMatch(/^user kaon\.viewer\.ann~prod on #[0-9a-f]{64} -@all /);
    const command = aclCommand(subjectOf('viewer', 'ann'), hash);
    expect(command).toMatch(/^ACL SETUSER kaon\.viewer\.ann~prod reset on '#[0-9a-f]{64}' -@all /);
    expect([line, command].join('')).not.toContain('secret');
  });
});

describe('a name', () => {
  test.each<[AclRole, string]>([
    ['agent', 'node1'],
    ['agent', 'node1.example.k3x9'],
    ['framework', 'shop'],
    ['framework', 'shop_2-b'],
    ['viewer', 'a'],
  ])('of the role %s may be %s', (role, name) => {
    expect(problemOfName(role, name)).toBeUndefined();
  });

  test.each<[AclRole, string]>([
    ['agent', ''],
    ['agent', 'a:b'],
    ['agent', '*'],
    ['agent', 'a*'],
    ['agent', 'a b'],
    ['agent', '-a'],
    ['agent', 'a~b'],
    ['agent', 'a/b'],
    ['agent', 'x'.repeat(65)],
    ['framework', 'shop.eu'],
    ['framework', 'shop:eu'],
    ['framework', 'sh?p'],
    ['framework', '[a]'],
    ['framework', 'x'.repeat(41)],
    ['operator', "bob'"],
  ])('of the role %s may not be %j', (role, name) => {
    expect(problemOfName(role, name)).toMatch(/letters, digits/);
  });
});
