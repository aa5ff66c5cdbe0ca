import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { credentialVariable, readCredential, withPassword } from '../../../io/credentials.ts';
import { parseRedisUrl } from '../../../io/redis-url.ts';

describe('a secret', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-credentials-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });
  const put = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };

  test('is the file that systemd has put there, without its final newline', () => {
    put('kaon_token', ' kaon1_a b\n');
    expect(readCredential('token', { CREDENTIALS_DIRECTORY: directory })).toBe(' kaon1_a b');
  });

  test('is absent if nobody has given it, with and without systemd', () => {
    expect(readCredential('token', { CREDENTIALS_DIRECTORY: directory })).toBeUndefined();
    expect(readCredential('token', { CREDENTIALS_DIRECTORY: '', KAON_TOKEN_FILE: '' })).toBe(
      undefined,
    );
    expect(readCredential('token', { KAON_CREDENTIALS: join(directory, 'none') })).toBeUndefined();
  });

  test('may be in a directory of its own, or in a file that a variable names', () => {
    put('redis-password', 'one');
    const file = put('elsewhere', 'two\r\n');
    const environment = { KAON_REDIS_PASSWORD_FILE: file };
    expect(readCredential('redis-password', environment)).toBe('two');
    const both = { ...environment, KAON_CREDENTIALS: directory };
    expect(readCredential('redis-password', both)).toBe('one');
  });

  test('that was promised by a variable and is not there is told, by its name', () => {
    const path = join(directory, 'none');
    expect(() => readCredential('cluster-key', { KAON_CLUSTER_KEY_FILE: path })).toThrow(
      `the cluster-key in ${path} cannot be read: ENOENT`,
    );
  });

  test('that is empty is a mistake, and not the lack of one', () => {
    const path = put('kaon_token', '\n');
    expect(() => readCredential('token', { CREDENTIALS_DIRECTORY: directory })).toThrow(
      `the token in ${path} is empty`,
    );
  });
});

test('the variable of a secret names its file', () => {
  expect(credentialVariable('redis-password')).toBe('KAON_REDIS_PASSWORD_FILE');
});

describe('a password', () => {
  test.each([
    ['redis://h:1', 'redis://:s%2F%40%3A@h:1'],
    ['redis://kaon-agent@h:1/0', 'redis://kaon-agent:s%2F%40%3A@h:1/0'],
    ['rediss://u@h?ca=/a', 'rediss://u:s%2F%40%3A@h?ca=/a'],
    ['redis+sentinel://u@a:1,b:2/m', 'redis+sentinel://u:s%2F%40%3A@a:1,b:2/m'],
    ['unix:///run/redis.sock', 'unix://:s%2F%40%3A@/run/redis.sock'],
    ['redis://u:own@h', 'redis://u:own@h'],
    ['nonsense', 'nonsense'],
  ])('goes into %s', (url, expected) => {
    expect(withPassword(url, 's/@:')).toBe(expected);
    expect(withPassword(url, undefined)).toBe(url);
  });

  test('arrives as it was written', () => {
    const url = withPassword('redis://kaon-agent@h:1', 'a/b@c:d%');
    expect(parseRedisUrl(url)).toMatchObject({ username: 'kaon-agent', password: 'a/b@c:d%' });
  });
});
