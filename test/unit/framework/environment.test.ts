import { describe, expect, test } from '@jest/globals';
import { clusterAddress, frameworkInfo } from '../../../framework/environment.ts';
import { frameworkIdOf } from '../../support/builders.ts';

describe('the address of the cluster', () => {
  const environment = { KAON_REDIS: 'redis://env', KAON_CLUSTER: 'env' };

  test.each([
    ['that of the author', { redis: 'redis://own', cluster: 'own' }, 'redis://own', 'own'],
    ['else that of the environment', {}, 'redis://env', 'env'],
    ['also if the author has an empty one', { redis: '', cluster: '' }, 'redis://env', 'env'],
    ['else that of the environment, each alone', { cluster: 'own' }, 'redis://env', 'own'],
  ])('is %s', (_title, given, url, cluster) => {
    expect(clusterAddress(given, environment)).toEqual({ url, cluster });
  });

  test('is that of this host if nobody says anything', () => {
    expect(clusterAddress({}, { KAON_REDIS: '' })).toEqual({
      url: 'redis://127.0.0.1:6379',
      cluster: 'default',
    });
  });

  test('is refused if the environment names no cluster', () => {
    expect(() => clusterAddress({}, { KAON_CLUSTER: 'a}b' })).toThrow(
      '"a}b" is no name of a cluster',
    );
  });
});

describe('the id of a framework', () => {
  const idIn = (environment: Record<string, string>): string =>
    frameworkInfo({ name: 'shop' }, environment).frameworkId;

  test('is what its author says, whatever the environment does', () => {
    const description = { name: 'shop', frameworkId: frameworkIdOf('mine') };
    expect(frameworkInfo(description, { KAON_FRAMEWORK_ID: 'shop.1' }).frameworkId).toBe('mine');
  });

  test('is that of the environment if the author says nothing', () => {
    expect(idIn({ KAON_FRAMEWORK_ID: 'shop.1' })).toBe('shop.1');
  });

  test.each(['KAON_TASK_ID', 'KAON_EXECUTOR_ID'])(
    'is not that of the framework that has launched the task which it runs in (%s)',
    (name) => {
      expect(idIn({ KAON_FRAMEWORK_ID: 'run.1', [name]: 't1' })).toMatch(/^shop\.[a-z0-9]{6}$/);
    },
  );

  test('is that if the task is the scheduler of its framework', () => {
    const environment = { KAON_FRAMEWORK_ID: 'run.1', KAON_TASK_ID: 't1', KAON_SCHEDULER: '1' };
    expect(idIn(environment)).toBe('run.1');
  });

  test('is a new one each time if nobody says anything', () => {
    expect(idIn({ KAON_FRAMEWORK_ID: '' })).not.toBe(idIn({}));
  });
});
