import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  keyOf,
  makeClusterKey,
  makeToken,
  parseClusterKey,
  parseToken,
} from '../../../io/tokens.ts';
import { findClusterKey, findToken } from '../../../io/secrets.ts';
import { codeOf } from '../../../protocol/errors.ts';

const clusterKey = Buffer.alloc(32, 7);
const anyName = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/);
const anyGeneration = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });

const codeFrom = (act: () => unknown): string | undefined => {
  try {
    act();
  } catch (error) {
    return codeOf(error);
  }
  return undefined;
};

describe('a token', () => {
  test('says whose it is, and has the key that the master derives', () => {
    fc.assert(
      fc.property(anyName, anyGeneration, (name, generation) => {
        const key = keyOf(clusterKey, name, generation);
        expect(parseToken(makeToken(clusterKey, name, generation))).toEqual({
          name,
          generation,
          key,
        });
      }),
    );
  });

  test('of another name, generation or cluster has another key', () => {
    const keys = [
      keyOf(clusterKey, 'ci', 1),
      keyOf(clusterKey, 'ci', 2),
      keyOf(clusterKey, 'ci1', 1),
      keyOf(Buffer.alloc(32, 8), 'ci', 1),
    ];
    expect(new Set(keys.map((key) => key.toString('hex'))).size).toBe(keys.length);
  });

  test('is the same each time, and stays so', () => {
    expect(makeToken(clusterKey, 'ci', 1)).toBe(
      'kaon1_eyJuIjoiY2kiLCJnIjoxfQ_FETBDKkKk4fFs2MUG3xFReFc5whS5svRM9PbApat04Y',
    );
  });

  test('of which a piece is missing is none, and no text makes the parser fail', () => {
    const whole = makeToken(clusterKey, 'ci', 1);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), (length) => {
        expect(parseToken(whole.slice(0, length))).toBeUndefined();
      }),
    );
    fc.assert(fc.property(fc.string(), (text) => parseToken(text) === undefined));
    const claims = ['null', '[]', '"x"', '{"n":"a/b","g":1}', '{"n":"ci","g":0}', '{"n":"ci"}'];
    const forged = claims.map((json) => {
      const claim = Buffer.from(json).toString('base64url');
      return parseToken(`kaon1_${claim}_${'A'.repeat(43)}`);
    });
    expect(forged).toEqual(claims.map(() => undefined));
  });
});

describe('the key of a cluster', () => {
  test('is 32 bytes, as hexadecimal or base64', () => {
    const forms = [
      clusterKey.toString('hex'),
      clusterKey.toString('hex').toUpperCase(),
      clusterKey.toString('base64'),
      clusterKey.toString('base64url'),
      ` ${clusterKey.toString('hex')}\n`,
    ];
    expect(forms.map((form) => parseClusterKey(form))).toEqual(forms.map(() => clusterKey));
    expect(parseClusterKey(makeClusterKey())).toHaveLength(32);
  });

  test.each(['', 'geheim', 'ab'.repeat(31), 'ab'.repeat(33), 'A'.repeat(42)])(
    'is not %j',
    (text) => {
      expect(parseClusterKey(text)).toBeUndefined();
    },
  );
});

describe('a process', () => {
  const token = makeToken(clusterKey, 'ci', 1);

  test('without any token is a client of an open cluster', () => {
    expect([findToken(undefined, {}), findToken(undefined, { KAON_TOKEN: '' })]).toEqual([
      undefined,
      undefined,
    ]);
    expect(findClusterKey(undefined, {})).toBeUndefined();
  });

  test('takes the token that it was given before that of its environment', () => {
    const environment = { KAON_TOKEN: makeToken(clusterKey, 'other', 1) };
    expect(findToken(token, environment)?.name).toBe('ci');
    expect(findToken(undefined, environment)?.name).toBe('other');
  });

  test('with a mangled token ends, and its message has nothing of it', () => {
    const mangled = token.slice(0, -1);
    expect(codeFrom(() => findToken(mangled, {}))).toBe('token-malformed');
    expect(() => findToken(mangled, {})).toThrow(/^(?!.*kaon1_ey).*has \d+ characters/);
  });

  test('with a file that is not there ends', () => {
    expect(codeFrom(() => findToken(undefined, { KAON_TOKEN_FILE: '/nowhere/token' }))).toBe(
      'credential',
    );
    expect(codeFrom(() => findClusterKey('/nowhere/key', {}))).toBe('cluster-key');
  });
});
