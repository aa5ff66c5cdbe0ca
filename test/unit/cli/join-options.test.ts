import { describe, expect, test } from '@jest/globals';
import { parseAclOptions, parseCreateOptions } from '../../../cli/join-options.ts';

const connection = { redis: 'redis://10.0.0.5:6379', cluster: 'prod' };

describe('kaon join-token create', () => {
  test('has a name of its own if none is given', () => {
    const { subject } = parseCreateOptions({ role: 'agent' }, connection);
    expect(subject).toMatchObject({ role: 'agent', cluster: 'prod' });
    expect(subject.name).toMatch(/^node-[a-z0-9]{6}$/);
  });

  test.each([
    [{}, '--role is missing'],
    [{ role: 'robber' }, 'not one of agent, framework, bullmq, viewer, operator, master'],
    [{ role: 'agent', name: 'a:b' }, '--name a:b: an agent has'],
    [{ role: 'framework', name: 'a.b' }, '--name a.b: it has'],
    [{ role: 'agent', name: 'a', nodeRedis: 'http://x' }, 'not a Redis address'],
    [{ role: 'bullmq', name: 'a', prefix: 'b*' }, '--prefix b*: not a prefix for rules'],
  ])('refuses %j', (raw, problem) => {
    expect(() => parseCreateOptions(raw, connection)).toThrow(problem);
  });
});

describe('kaon acl', () => {
  test('is about one of each role, or the one that is named', () => {
    const names = (raw: Record<string, string>): string[] =>
      parseAclOptions(raw, connection).subjects.map(({ role, name }) => `${role} ${name}`);
    expect(names({})).toEqual([
      'agent agent',
      'framework framework',
      'bullmq bullmq',
      'viewer viewer',
      'operator operator',
      'master master',
    ]);
    expect(names({ role: 'agent', name: 'n1' })).toEqual(['agent n1']);
  });

  test.each([
    [{ name: 'n1' }, '--name goes with --role'],
    [{ passwordHash: 'abc' }, 'not a SHA-256'],
  ])('refuses %j', (raw, problem) => {
    expect(() => parseAclOptions(raw, connection)).toThrow(problem);
  });
});
