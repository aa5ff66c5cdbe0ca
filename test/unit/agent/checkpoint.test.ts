import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Checkpoints, TaskCheckpoint } from '../../../agent/checkpoint.ts';
import { openCheckpoints } from '../../../agent/checkpoint.ts';
import type { LaunchId } from '../../../protocol/ids.ts';
import { agentIdOf, amount, frameworkInfo, taskInfo } from '../../support/builders.ts';
import { createWatchedLog } from '../../support/watch.ts';

let directory: string;
let checkpoints: Checkpoints;
let log: ReturnType<typeof createWatchedLog>;

const launch = (text: string): LaunchId => text as LaunchId;

function checkpoint(launchId: string, more: Partial<TaskCheckpoint> = {}): TaskCheckpoint {
  return {
    version: 2,
    agentId: agentIdOf('a1'),
    framework: frameworkInfo('f1'),
    detached: false,
    task: taskInfo('t1'),
    launchId: launch(launchId),
    unit: `kaon-a1-t1-${launchId}.service`,
    sandbox: '/s',
    bootId: 'boot',
    rebuilt: false,
    ...more,
  };
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-checkpoint-'));
  log = createWatchedLog();
  checkpoints = await openCheckpoints(directory, log);
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

test('a checkpoint is read as it was written, with what has changed of its framework and its limits', async () => {
  checkpoints.write(checkpoint('1.1.1', { kill: 'master' }));
  const framework = frameworkInfo('f1', { name: 'renamed' });
  const change = { framework, detached: true, resources: amount(2, 512) };
  checkpoints.update(launch('1.1.1'), change);
  checkpoints.update(launch('9.9.9'), change);
  const task = taskInfo('t1', { resources: amount(2, 512) });
  expect(await checkpoints.readAll()).toEqual([
    checkpoint('1.1.1', { kill: 'master', framework, detached: true, task }),
  ]);
});

test.each(['{"version":2,', '{"version":99}', ''])(
  'a checkpoint of %j is named, kept aside, and the others are read',
  async (text) => {
    const path = join(directory, 'live', '1.1.0.json');
    writeFileSync(path, text);
    checkpoints.write(checkpoint('1.1.1'));
    expect(await checkpoints.readAll()).toEqual([checkpoint('1.1.1')]);
    expect(existsSync(`${path}.bad`)).toBe(true);
    expect(log.lines.seen).toMatchObject([{ event: 'checkpoint.bad', fields: { path } }]);
  },
);

describe('the checkpoint of an end that was acknowledged', () => {
  test('is among the ended ones from then on, oldest first, until it is forgotten', async () => {
    for (const id of ['1.1.1', '1.1.2']) checkpoints.write(checkpoint(id));
    for (const id of ['1.1.2', '1.1.1']) {
      checkpoints.retire(launch(id));
      const seconds = Date.now() / 1000 - (id === '1.1.2' ? 20 : 10);
      utimesSync(join(directory, 'ended', `${id}.json`), seconds, seconds);
    }
    expect(await checkpoints.readAll()).toEqual([]);
    const ids = async (): Promise<string[]> =>
      (await checkpoints.readEnded(Date.now())).map((ended) => ended.checkpoint.launchId);
    expect(await ids()).toEqual(['1.1.2', '1.1.1']);
    checkpoints.forgetEnded(launch('1.1.2'));
    expect(await ids()).toEqual(['1.1.1']);
  });

  test('is removed when it is five minutes old', async () => {
    checkpoints.write(checkpoint('1.1.1'));
    checkpoints.retire(launch('1.1.1'));
    expect(await checkpoints.readEnded(Date.now() + 299_000)).toHaveLength(1);
    expect(await checkpoints.readEnded(Date.now() + 301_000)).toEqual([]);
    expect(readdirSync(join(directory, 'ended'))).toEqual([]);
  });

  test('may never have been written, because the disk was full', () => {
    expect(() => {
      checkpoints.retire(launch('1.1.1'));
    }).not.toThrow();
  });
});
