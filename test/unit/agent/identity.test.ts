import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { lockDirectory } from '../../../agent/directory-lock.ts';
import {
  agentTagOf,
  type Identity,
  type IdentityOptions,
  nodeOf,
  openIdentity,
} from '../../../agent/identity.ts';
import { agentIdOf } from '../../support/builders.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-identity-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

function open(more: Partial<IdentityOptions> = {}): Promise<Identity> {
  return openIdentity({
    directory,
    cluster: 'c1',
    wanted: undefined,
    traces: () => Promise.resolve([]),
    make: () => agentIdOf('made'),
    ...more,
  });
}

describe('an agent', () => {
  test('is the same one when it starts again, and knows the newest leader', async () => {
    const first = await open();
    first.rememberLeader({ masterId: 'm1', epoch: 7 });
    const second = await open({ make: () => agentIdOf('another') });
    expect(second).toMatchObject({ agentId: 'made', leaderSeen: { masterId: 'm1', epoch: 7 } });
  });

  test('without its file is the one that its tasks speak of', async () => {
    const traces = (): Promise<ReturnType<typeof agentIdOf>[]> =>
      Promise.resolve([agentIdOf('old'), agentIdOf('old')]);
    expect((await open({ traces })).agentId).toBe('old');
    expect((await open()).agentId).toBe('old');
  });

  test.each<[string, string | undefined, Partial<IdentityOptions>, string]>([
    ['whose file is damaged', '{"version":1', {}, 'is not an agent’s identity'],
    ['whose file is of a later version', '{"version":9,"agentId":"a"}', {}, 'version'],
    [
      'that is told to be another one',
      '{"version":1,"agentId":"a"}',
      { wanted: agentIdOf('b') },
      'belongs to agent a, not to b',
    ],
    [
      'of another cluster',
      '{"version":1,"agentId":"a","cluster":"c2"}',
      {},
      'of cluster c2, not of c1',
    ],
    [
      'without a file and with tasks of several',
      undefined,
      { traces: () => Promise.resolve([agentIdOf('y'), agentIdOf('x')]) },
      'tasks of several agents: x, y',
    ],
  ])('%s is refused, and nothing is changed', async (_who, text, options, words) => {
    const path = join(directory, 'agent.json');
    if (text !== undefined) writeFileSync(path, text);
    await expect(open(options)).rejects.toMatchObject({
      code: 'agent-state',
      message: expect.stringContaining(words.replace('’', "'")),
    });
    if (text !== undefined) expect(readFileSync(path, 'utf8')).toBe(text);
  });
});

test('an installation is named by its directory, whatever path leads there', () => {
  const link = `${directory}.link`;
  symlinkSync(directory, link);
  expect(nodeOf(link)).toBe(nodeOf(directory));
  expect(nodeOf(directory)).not.toBe(nodeOf(tmpdir()));
  rmSync(link);
});

test('agents of different clusters have different tags, also with one id', () => {
  const tags = [agentTagOf('c1', agentIdOf('a')), agentTagOf('c2', agentIdOf('a'))];
  expect(new Set(tags).size).toBe(2);
  expect(tags.every((tag) => /^[0-9a-f]{8}$/.test(tag))).toBe(true);
});

test('a second agent on one directory is refused with the pid of the first, until that is gone', async () => {
  const release = await lockDirectory(directory);
  await expect(lockDirectory(directory)).rejects.toMatchObject({
    code: 'agent-running',
    message: `an agent runs on ${directory} already, pid ${String(process.pid)}`,
  });
  release();
  await expect(lockDirectory(directory)).resolves.toBeInstanceOf(Function);
});
