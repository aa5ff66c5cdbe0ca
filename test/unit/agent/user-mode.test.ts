import { describe, expect, test } from '@jest/globals';
import { findNeighbours } from '../../../agent/neighbours.ts';
import { refuseOtherUser, userBusAddress, userStateDirectory } from '../../../agent/user-mode.ts';
import { codeOf } from '../../../protocol/errors.ts';

describe('the bus of a user', () => {
  test('is the one that the session names, else the socket in the runtime directory', () => {
    const both = { DBUS_SESSION_BUS_ADDRESS: 'unix:path=/tmp/bus', XDG_RUNTIME_DIR: '/run/user/7' };
    expect(userBusAddress(both, 7)).toBe('unix:path=/tmp/bus');
    const runtime = { DBUS_SESSION_BUS_ADDRESS: '', XDG_RUNTIME_DIR: '/run/user/7' };
    expect(userBusAddress(runtime, 7)).toBe('unix:path=/run/user/7/bus');
  });

  test('is not guessed without a login', () => {
    const guess = (): string => userBusAddress({ XDG_RUNTIME_DIR: '' }, 7);
    expect(guess).toThrow('neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set');
  });
});

describe('the state directory of a user', () => {
  test.each([
    [{}, '/home/ada/.local/state/kaon'],
    [{ XDG_STATE_HOME: '/srv/state' }, '/srv/state/kaon'],
    [{ XDG_STATE_HOME: 'state' }, '/home/ada/.local/state/kaon'],
  ])('with %j is %s', (environment, directory) => {
    expect(userStateDirectory(environment, '/home/ada')).toBe(directory);
  });
});

describe('a task that names a user', () => {
  const ada = { name: 'ada', uid: 1000, holdsLimits: true };
  const codeFor = (wanted: string): string | undefined => {
    try {
      refuseOtherUser(wanted, ada);
      return undefined;
    } catch (error) {
      return codeOf(error);
    }
  };

  test('may name the one of the agent, by name or number', () => {
    expect([codeFor('ada'), codeFor('1000')]).toEqual([undefined, undefined]);
  });

  test('may name no other', () => {
    expect([codeFor('root'), codeFor('0'), codeFor('adalbert')]).toEqual(
      Array.from({ length: 3 }, () => 'user-refused'),
    );
  });
});

describe('other agents of a node', () => {
  const OWN = '/user.slice/user-1000.slice/user@1000.service';
  const look = (base: string, slices: readonly string[]) => ({
    exists: (path: string) => slices.some((slice) => path === `${base}${slice}/kaon.slice`),
    children: (path: string) => {
      const inside = slices.filter((slice) => `${base}${slice}`.startsWith(`${path}/`));
      return inside.map((slice) => `${base}${slice}`.slice(path.length + 1).split('/')[0] ?? '');
    },
  });
  const OTHER = '/user.slice/user-1001.slice/user@1001.service';

  test("are the node's own and those of other users, not ourselves", () => {
    const fs = look('/sys/fs/cgroup', ['', OWN, OTHER]);
    const place = { fs, root: '/sys/fs/cgroup', version: 'v2' } as const;
    expect(findNeighbours({ ...place, own: OWN })).toEqual(['system', 'user 1001']);
    expect(findNeighbours({ ...place, own: '' })).toEqual(['user 1000', 'user 1001']);
  });

  test("are found in systemd's own hierarchy on cgroup v1", () => {
    const fs = look('/sys/fs/cgroup/systemd', ['']);
    const place = { fs, root: '/sys/fs/cgroup', version: 'v1', own: OWN } as const;
    expect(findNeighbours(place)).toEqual(['system']);
  });

  test('are none on a node that has none', () => {
    const fs = look('/sys/fs/cgroup', [OWN]);
    const place = { fs, root: '/sys/fs/cgroup', version: 'v2', own: OWN } as const;
    expect(findNeighbours(place)).toEqual([]);
  });
});
