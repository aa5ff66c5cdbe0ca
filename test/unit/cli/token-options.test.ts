import { describe, expect, test } from '@jest/globals';
import { exitCodeFor } from '../../../cli/failure.ts';
import { parseCreateTokenOptions, tokenNameOf } from '../../../cli/token-options.ts';
import type { RawOptions } from '../../../cli/parse-options.ts';
import { KaonError } from '../../../protocol/errors.ts';

const connection = { redis: 'redis://r', cluster: 'c' };
const create = (raw: RawOptions, name = 'ci'): ReturnType<typeof parseCreateTokenOptions> =>
  parseCreateTokenOptions(raw, connection, name);

describe('kaon token create', () => {
  test('takes what a token is good for', () => {
    const raw = { kind: 'framework', role: ['ci', 'web'], user: ['bob'], expires: '90d' };
    expect(create(raw)).toEqual({
      ...connection,
      name: 'ci',
      kind: 'framework',
      roles: ['ci', 'web'],
      users: ['bob'],
      agentId: undefined,
      lifeMs: 90 * 86_400_000,
      clusterKeyFile: undefined,
    });
  });

  test.each<[RawOptions, string]>([
    [{}, '--kind is missing; it is one of viewer, operator, framework, agent, admin'],
    [{ kind: 'root' }, '--kind root: not one of viewer, operator, framework, agent, admin'],
    [{ kind: 'viewer', expires: 'soon' }, '--expires soon: not a duration'],
    [{ kind: 'viewer', expires: '0' }, '--expires 0: must be more than 0'],
    [{ kind: 'agent', agent: 'a/b' }, '--agent a/b: an id is letters'],
  ])('refuses %j', (raw, words) => {
    expect(() => create(raw)).toThrow(words);
  });

  test.each(['', 'a b', '-x', 'root@host', 'ä', 'x'.repeat(65)])('refuses the name %j', (name) => {
    expect(() => tokenNameOf(name)).toThrow('is no name of a token');
  });
});

describe('the exit code of a refusal', () => {
  const exitOf = (code: string): number => exitCodeFor(new KaonError(code, 'no'));

  test('is 77 where another token would do, and 78 where this process has none that is one', () => {
    const codes = [
      'unauthenticated',
      'forbidden',
      'token-revoked',
      'token-expired',
      'token-forged',
    ];
    expect(codes.map(exitOf)).toEqual(codes.map(() => 77));
    expect(['cluster-key', 'token-malformed', 'token-missing'].map(exitOf)).toEqual([78, 78, 78]);
  });
});
