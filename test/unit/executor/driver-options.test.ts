import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { readToken, resolveOptions } from '../../../executor/driver-options.ts';

const ENVIRONMENT = {
  KAON_EXECUTOR_SOCKET: '/run/agent.sock',
  KAON_EXECUTOR_TOKEN_FILE: '/run/token',
  KAON_FRAMEWORK_ID: 'f1',
  KAON_EXECUTOR_ID: 'e1',
};

describe('options', () => {
  test('come from the environment', () => {
    expect(resolveOptions({}, ENVIRONMENT)).toMatchObject({
      socketPath: '/run/agent.sock',
      tokenFile: '/run/token',
      frameworkId: 'f1',
      executorId: 'e1',
      stopTimeoutMs: 60_000,
    });
  });

  test('that are given come first', () => {
    const given = { socketPath: '/other', stopTimeoutMs: 1 };
    expect(resolveOptions(given, ENVIRONMENT)).toMatchObject({ ...given, executorId: 'e1' });
  });

  test.each(Object.keys(ENVIRONMENT))('lack %s if no agent has started the process', (name) => {
    expect(() => resolveOptions({}, { ...ENVIRONMENT, [name]: '' })).toThrow(
      `this executor was not started by an agent: ${name} is not set`,
    );
  });
});

describe('a token', () => {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-token-'));
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  function written(text: string): string {
    const path = join(directory, 'token');
    writeFileSync(path, text);
    return path;
  }

  test('is what the file has, without the end of its line', () => {
    expect(readToken(written('abc\n'))).toBe('abc');
  });

  test.each([
    ['there is none', () => readToken('/no/such/file'), 'ENOENT'],
    ['it is empty', () => readToken(written('\n')), 'it is empty'],
  ])('cannot be read if %s', (_why, read, words) => {
    expect(read).toThrow(
      expect.objectContaining({ code: 'executor-token', message: expect.stringContaining(words) }),
    );
  });
});
