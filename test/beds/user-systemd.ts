/**
 * A real `systemd --user` of an ordinary user of this machine, with its own message bus, inside a private systemd: what
 * `user@.service` starts on a node that people log in to.
 *
 * Where the machine has cgroup v1, or both, no controller is delegated to it; a private systemd cannot change that.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { bootPrivateSystemd, type PrivateSystemd } from '../../systemd/private/boot.ts';
import { findSystemd } from '../../systemd/private/reason.ts';
import type { Ended, Running } from './cluster.ts';
import { startCommand, until } from './cluster.ts';

/** A user of every Linux, without processes of its own. */
export const BED_USER = 'games';
/** What a user's own shell has in PATH. */
const PATH = process.env['PATH'] ?? '/usr/bin:/bin';

/** Of the user whose manager runs. */
export interface UserBed {
  readonly inside: PrivateSystemd;
  readonly uid: number;
  /** Its home directory; below it `.local/state` and `.config` are its own. Gone after `stop`. */
  readonly home: string;
  readonly busAddress: string;
  /** Runs a command as root inside. */
  asRoot(...argv: string[]): Promise<Ended>;
  /** Runs a command as the user, with what a login sets; `environment` comes on top, and `-` takes a variable away. */
  start(argv: readonly string[], environment?: Readonly<Record<string, string>>): Running;
  /** `systemctl --user`. @throws Error with what it printed */
  systemctl(...args: string[]): Promise<string>;
  /** Puts a unit in place for the user with a drop-in, and has systemd read both. */
  install(unit: string, dropIn: string): Promise<void>;
  /** Ends the user's manager, as the end of its last session does, and starts it again. */
  logOutAndIn(): Promise<void>;
  stop(): Promise<void>;
}

const UNITS = resolve('systemd/units/user');
const MANAGER = 'kaon-user-manager.service';

/** As Debian's user@.service, without PAM, which needs logind for a session. */
function managerUnit(uid: number, home: string): string {
  return `[Unit]
Description=User Manager
After=dbus.service
[Service]
Type=notify
User=${BED_USER}
Slice=user-${String(uid)}.slice
Environment=XDG_RUNTIME_DIR=/run/user/${String(uid)} HOME=${home} PATH=${PATH}
ExecStart=${findSystemd() ?? ''} --user
KillMode=mixed
Delegate=pids memory cpu
TasksMax=infinity
OOMScoreAdjust=100
`;
}

/** The home directory and the runtime directory are there before the manager is. */
export async function startUserBed(): Promise<UserBed> {
  const [uid, gid] = ['-u', '-g'].map((flag) =>
    Number(execFileSync('id', [flag, BED_USER], { encoding: 'utf8' })),
  ) as [number, number];
  const directory = mkdtempSync(join(tmpdir(), 'kaon-bed-user-'));
  chmodSync(directory, 0o711);
  const home = join(directory, 'home');
  mkdirSync(home);
  chownSync(home, uid, gid);
  const inside = await bootPrivateSystemd({
    stateDir: directory,
    extraUnits: { 'user.slice': '[Unit]\nDescription=Users\n', [MANAGER]: managerUnit(uid, home) },
  });
  const runtime = `/run/user/${String(uid)}`;
  const busAddress = `unix:path=${runtime}/bus`;
  const asRoot = (...argv: string[]): Promise<Ended> => startCommand(inside.nsenter(argv)).ended;
  const login: Readonly<Record<string, string>> = {
    ...{ PATH, HOME: home, USER: BED_USER, LOGNAME: BED_USER, SHELL: '/bin/sh' },
    ...{ XDG_RUNTIME_DIR: runtime, DBUS_SESSION_BUS_ADDRESS: busAddress },
  };
  const become = ['setpriv', '--reuid', String(uid), '--regid', String(gid), '--clear-groups'];
  const start = (argv: readonly string[], environment = {}): Running => {
    const variables = Object.entries({ ...login, ...environment })
      .filter(([, value]) => value !== '-')
      .map(([name, value]) => `${name}=${value}`);
    return startCommand(inside.nsenter([...become, 'env', '-i', ...variables, ...argv]));
  };
  const systemctl = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await start(['systemctl', '--user', ...args]).ended;
    if (exitCode === 0) return stdout;
    throw new Error(`systemctl --user ${args.join(' ')} ended with ${String(exitCode)}: ${stderr}`);
  };
  const logIn = async (): Promise<void> => {
    await asRoot('systemctl', 'restart', MANAGER);
    await until(
      async () =>
        (await start(['systemctl', '--user', 'is-active', 'dbus.socket']).ended).exitCode === 0,
    );
  };
  // What is needed by sandboxing, and what logind would make: before the manager looks for them.
  await asRoot('mkdir', '-p', '/run/systemd/unit-root', runtime);
  await asRoot('chown', `${String(uid)}:${String(gid)}`, runtime);
  await asRoot('chmod', '700', runtime);
  await logIn();
  return {
    ...{ inside, uid, home, busAddress, asRoot, start, systemctl },
    install: async (unit, dropIn) => {
      const folder = join(home, '.config', 'systemd', 'user');
      mkdirSync(join(folder, `${unit}.d`), { recursive: true });
      writeFileSync(join(folder, unit), readFileSync(join(UNITS, unit)));
      writeFileSync(join(folder, `${unit}.d`, 'here.conf'), dropIn);
      execFileSync('chown', ['-R', `${String(uid)}:${String(gid)}`, join(home, '.config')]);
      await systemctl('daemon-reload');
    },
    logOutAndIn: logIn,
    stop: async () => {
      await inside.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
