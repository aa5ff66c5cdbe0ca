/**
 * A node whose daemons run from the unit files that are installed on real ones: a private systemd with `systemd/units/*`
 * in it, and a drop-in that says where the command, its settings and its secrets are. Their sandboxes hide most of the
 * file system, so a copy of the command is below /run, as are the settings.
 */
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { bootPrivateSystemd, type PrivateSystemd } from '../../systemd/private/boot.ts';
import { type Ended, KAON, startCommand } from './cluster.ts';

const UNITS = resolve('systemd/units');
const WITH_JOURNAL = resolve('systemd/with-journal');
/** systemd reads this first, and it is gone with the node. */
const INSIDE = 'run/systemd/system.control';
/** The command and the settings, as seen inside. */
const HERE = '/run/kaon-bed';
const NODE = `${HERE}/node`;
const COMMAND = [NODE, `${HERE}/dist/kaon.js`];
/** systemctl while process 1 executes itself anew finds nobody for a moment, and on a busy machine for seconds. */
const ATTEMPTS = 100;
/** Where somebody has answered, and refused: to ask on would hide what is wrong. */
const REFUSED_ATTEMPTS = 5;
const NOBODY =
  /Failed to connect to bus|Connection (?:refused|reset by peer|timed out|terminated)|not connected|disconnected from message bus|Remote peer disconnected/;
const PAUSE_MS = 100;

/** Names of the unit files of Kaon. */
export type UnitName = 'kaon-master.service' | 'kaon-agent.service' | 'kaon-bullmq.service';
/** The daemons that have a unit file. */
export type DaemonName = 'master' | 'agent' | 'bullmq';

/** A daemon as it is to be started. */
export interface DaemonUnit {
  readonly daemon: DaemonName;
  /** Text of its configuration file. */
  readonly settings: string;
  /** By their names: `redis-password`. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** More lines of `[Service]`. */
  readonly lines?: readonly string[];
  /** Default: the name of the unit file. */
  readonly name?: string;
  /** How the configuration file ends. Default `.toml`. */
  readonly suffix?: '.toml' | '.json';
}

export interface UnitsNode {
  readonly inside: PrivateSystemd;
  /** Runs a command inside, to its end. */
  run(...argv: string[]): Promise<Ended>;
  /** `systemctl`, again if process 1 was not there to answer. @throws Error with what it printed */
  systemctl(...args: string[]): Promise<string>;
  /** One property of a unit, as `systemctl show` has it. */
  show(unit: string, property: string): Promise<string>;
  /**
   * Puts a unit in place under a name (default: its own) with a drop-in, and has systemd read both. It has no secrets, and no
   * watchdog: who stops a process with SIGSTOP here wants it stopped.
   */
  install(unit: UnitName, dropIn: string, name?: string): Promise<void>;
  /** The same as it is on a real node, with settings and secrets in files. */
  installDaemon(unit: DaemonUnit): Promise<void>;
  /** Writes the settings of an installed daemon anew. */
  configure(unit: string, settings: string): void;
  /** `journalctl` with these arguments: what it printed. */
  journal(...args: string[]): Promise<string>;
  stop(): Promise<void>;
}

/** @param directory existing; the boot's files are in it until `stop` */
export async function bootUnitsNode(directory: string): Promise<UnitsNode> {
  const inside = await bootPrivateSystemd({ stateDir: directory });
  const outside = (path: string): string => join(inside.root, path);
  const run = (...argv: string[]): Promise<Ended> => startCommand(inside.nsenter(argv)).ended;
  const systemctl = async (...args: string[]): Promise<string> => {
    for (let attempt = 1; ; attempt += 1) {
      const { exitCode, stdout, stderr } = await run('systemctl', ...args);
      if (exitCode === 0) return stdout;
      if (attempt >= (NOBODY.test(stderr) ? ATTEMPTS : REFUSED_ATTEMPTS)) {
        const { stdout: journal } = await run('journalctl', '--no-pager', '--lines=20');
        const what = `systemctl ${args.join(' ')} ended with ${String(exitCode)}`;
        throw new Error(`${what}: ${stderr}\n${journal}`);
      }
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
  };
  const put = async (unit: UnitName, name: string, text: string): Promise<void> => {
    const folder = outside(INSIDE);
    mkdirSync(join(folder, `${name}.d`), { recursive: true });
    writeFileSync(join(folder, name), readFileSync(join(UNITS, unit)));
    writeFileSync(join(folder, `${name}.d`, 'here.conf'), text);
    await systemctl('daemon-reload');
  };
  return {
    inside,
    run,
    systemctl,
    show: async (unit, property) =>
      (await systemctl('show', `--property=${property}`, '--value', unit)).trim(),
    install: (unit, text, name = unit) => put(unit, name, `${WITHOUT_SECRETS}\n${text}`),
    installDaemon: async (unit) => {
      const { daemon, name = `kaon-${daemon}.service`, secrets = {} } = unit;
      if (!existsSync(outside(HERE))) copyCommand(outside(HERE));
      const credentials = outside(credentialsOf(name));
      mkdirSync(credentials, { recursive: true });
      chmodSync(credentials, 0o700);
      for (const [secret, text] of Object.entries(secrets)) {
        writeFileSync(join(credentials, secret), text, { mode: 0o600 });
      }
      writeFileSync(outside(settingsOf(name, unit.suffix)), unit.settings);
      await put(`kaon-${daemon}.service`, name, dropIn(unit, name));
    },
    configure: (unit, settings) => {
      writeFileSync(outside(settingsOf(unit)), settings);
    },
    journal: async (...args) => (await run('journalctl', '--no-pager', ...args)).stdout,
    stop: () => inside.stop(),
  };
}

function copyCommand(folder: string): void {
  const filter = (path: string): boolean => !path.endsWith('.map');
  cpSync(dirname(KAON), join(folder, 'dist'), { recursive: true, filter });
  cpSync(WITH_JOURNAL, join(folder, 'with-journal'));
  writeFileSync(join(folder, 'node'), '');
}

function settingsOf(name: string, suffix = '.toml'): string {
  return `${HERE}/${name}${suffix}`;
}

function credentialsOf(name: string): string {
  return `${HERE}/${name}.credentials`;
}

/** Lines that come before a drop-in of a test's own. */
const WITHOUT_SECRETS = '[Unit]\nAssertPathIsDirectory=\n[Service]\nLoadCredential=\nWatchdogSec=0';

/** What a real node has in other places: everything else of the unit is as it is installed. */
function dropIn({ daemon, suffix, lines = [] }: DaemonUnit, name: string): string {
  const toml = settingsOf(name);
  const kaon = (...args: string[]): string => execLine([...COMMAND, ...args]);
  const credentials = credentialsOf(name);
  const stepDown = `-+/usr/bin/env KAON_CREDENTIALS=${credentials} ${kaon('step-down', '--config', toml)}`;
  return [
    '[Unit]',
    'AssertPathIsDirectory=',
    `AssertPathIsDirectory=${credentials}`,
    'ConditionPathExists=',
    `ConditionPathExists=${settingsOf(name, suffix)}`,
    '[Service]',
    `LoadCredential=`,
    `LoadCredential=kaon:${credentials}`,
    // The one that runs the test, wherever that is.
    `BindReadOnlyPaths=${process.execPath}:${NODE}`,
    'ExecStart=',
    `ExecStart=/bin/sh ${HERE}/with-journal ${kaon(daemon, '--config', toml)}`,
    'ExecReload=',
    `ExecReload=${kaon('config', 'check', daemon, '--config', toml)}`,
    'ExecReload=/bin/kill -HUP $MAINPID',
    ...(daemon === 'master' ? ['ExecStopPost=', `ExecStopPost=${stepDown}`] : []),
    // Users are files of the machine that runs the test; this one is made for the unit, and gone with it.
    ...(daemon === 'agent' ? [] : ['User=', 'Group=', 'DynamicUser=yes']),
    ...lines,
    '',
  ].join('\n');
}

/** A command line as a unit file wants it: systemd.service(5), "Command lines". */
export function execLine(argv: readonly string[]): string {
  const quote = (argument: string): string =>
    `"${argument.replaceAll(/["\\]/g, '\\$&').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`;
  return argv.map(quote).join(' ');
}
