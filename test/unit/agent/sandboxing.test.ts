import { existsSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { grant, grantExecutor, openSandboxPolicy, userOfTasks } from '../../../agent/sandboxing.ts';
import type { SandboxPolicy, SandboxSettings } from '../../../agent/sandboxing.ts';
import { RELAXATION_NAMES } from '../../../protocol/sandboxing.ts';
import { policyOf } from '../../support/policies.ts';

const AROUND = {
  directory: '/s/agent',
  programs: '/usr/lib/kaon/current/dist',
  cgroupVersion: 'v2' as const,
  isRoot: true,
};
const open = (settings: SandboxSettings, more = {}): Promise<SandboxPolicy> =>
  openSandboxPolicy(settings, { ...AROUND, ...more });

describe('the rules of a node', () => {
  test.each([
    [{ taskUser: 'nobody' }, 'nobody'],
    [{ taskUser: 'dynamic' }, 'dynamic'],
    [{ taskUser: 'root', allowRoot: true }, 'root'],
  ])('%j: tasks run as %s', async (settings, user) => {
    expect(userOfTasks(await open(settings))).toBe(user);
  });

  test.each([
    [{ taskUser: 'root' }, 'tasks are to run as root, which is root'],
    [{ taskUser: 'no-such' }, 'tasks are to run as user "no-such", which does not exist here'],
    [{ expose: ['/a:b'] }, 'tasks are to see "/a:b", which systemd cannot be told of as it is'],
    [{ expose: ['/'] }, 'tasks are to see "/", which systemd cannot be told of as it is'],
    [
      { taskUser: 'dynamic', relax: ['tmp' as const] },
      'tasks of dynamic users always have these parts of the sandbox: filesystem, privileges, tmp',
    ],
  ])('%j contradict themselves or the node', async (settings, message) => {
    await expect(open(settings)).rejects.toMatchObject({ code: 'sandbox-settings', message });
  });

  test('an agent that is not root has its own user for tasks, and no sandbox', async () => {
    const policy = await open({}, { isRoot: false });
    expect(await grant(policy, {})).toEqual({ isDynamic: false });
    await expect(open({ taskUser: 'nobody' }, { isRoot: false })).rejects.toMatchObject({
      code: 'sandbox-settings',
    });
  });
});

describe('what a command is given', () => {
  const nobody = { name: 'nobody', ids: { uid: 65_534, gid: 65_534 } };
  const strict = policyOf('/s/agent', {
    ...{ user: nobody, allowUsers: [], allowRoot: false, allowRelax: [], relax: [] },
  });

  test('the user of the node, and a sandbox without the directory of the agent', async () => {
    expect(await grant(strict, {})).toMatchObject({
      user: 'nobody',
      ids: nobody.ids,
      isDynamic: false,
      sandbox: { relaxed: new Set(), network: 'full', isRoot: false, emptied: ['/s/agent'] },
    });
  });

  test('the same user by name or number needs no permission', async () => {
    expect(await grant(strict, { user: 'nobody' })).toMatchObject({ user: 'nobody' });
    expect(await grant(strict, { user: '65534' })).toMatchObject({ user: '65534' });
  });

  test.each([
    ['root', {}, false],
    ['0', { allowUsers: ['*'] }, false],
    ['root', { allowRoot: true }, true],
    ['daemon', {}, false],
    ['daemon', { allowRoot: true }, false],
    ['daemon', { allowUsers: ['bin'] }, false],
    ['daemon', { allowUsers: ['daemon'] }, true],
    ['daemon', { allowUsers: ['*'] }, true],
  ])('user %s with %j: %j', async (user, more, isGranted) => {
    const granted = grant({ ...strict, ...more }, { user });
    if (isGranted) expect(await granted).toMatchObject({ user });
    else await expect(granted).rejects.toMatchObject({ code: 'not-granted' });
  });

  test('shadow passwords are hidden from root as well', async () => {
    const { sandbox } = await grant({ ...strict, allowRoot: true }, { user: 'root' });
    expect(sandbox).toMatchObject({ isRoot: true });
    expect(sandbox?.hidden).toContain('/etc/shadow');
    const absent = sandbox?.hidden.filter((path) => !existsSync(path));
    expect(absent).toEqual([]);
  });

  test('parts of the sandbox are taken away for one task, or for all of a node', async () => {
    const asked = { sandboxing: { relax: ['devices', 'bus'], network: 'full' } };
    const { sandbox } = await grant(
      { ...strict, allowRelax: ['devices', 'bus'], relax: ['home'] },
      asked,
    );
    expect(sandbox?.relaxed).toEqual(new Set(['devices', 'bus', 'home']));
    expect(sandbox?.hidden).not.toContain('/run/dbus');
    await expect(grant(strict, asked)).rejects.toMatchObject({ code: 'not-granted' });
  });

  test('a node without any part has no sandbox at all, unless the task wants less network', async () => {
    const bare = { ...strict, relax: RELAXATION_NAMES };
    expect(await grant(bare, {})).not.toHaveProperty('sandbox');
    const sandboxing = { relax: [], network: 'none' };
    expect(await grant(bare, { sandboxing })).toMatchObject({ sandbox: { network: 'none' } });
  });

  test('its loopback alone needs cgroup v2', async () => {
    const sandboxing = { relax: [], network: 'loopback' };
    await expect(grant(strict, { sandboxing })).rejects.toThrow('needs cgroup v2');
    const onV2 = { ...strict, cgroupVersion: 'v2' as const };
    expect(await grant(onV2, { sandboxing })).toMatchObject({ sandbox: { network: 'loopback' } });
  });

  test('a cgroup for each task of an executor needs a user that is there before', async () => {
    const dynamic = { ...strict, user: 'dynamic' as const };
    await expect(grantExecutor(dynamic, { isolation: 'task' }, {})).rejects.toMatchObject({
      code: 'not-granted',
    });
    expect(await grantExecutor(dynamic, { isolation: 'container' }, {})).toMatchObject({
      isDynamic: true,
    });
  });
});
