/**
 * A node whose daemons run from the unit files that are installed on real ones: a private systemd with `systemd/units/*`
 * in it, and a drop-in that says where the command and its Redis are.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { bootPrivateSystemd, type PrivateSystemd } from '../../systemd/private/boot.ts';
import { type Ended, startCommand } from './cluster.ts';

const UNITS = resolve('systemd/units');
/** systemd reads this first, and it is gone with the node. */
const INSIDE = 'run/systemd/system.control';
/** systemctl while process 1 executes itself anew finds nobody for a moment. */
const ATTEMPTS = 5;
const PAUSE_MS = 100;

/** Names of the unit files of Kaon. */
export type UnitName = 'kaon-master.service' | 'kaon-agent.service' | 'kaon-bullmq.service';

export interface UnitsNode {
  readonly inside: PrivateSystemd;
  /** Runs a command inside, to its end. */
  run(...argv: string[]): Promise<Ended>;
  /** `systemctl`, again if process 1 was not there to answer. @throws Error with what it printed */
  systemctl(...args: string[]): Promise<string>;
  /** Puts a unit in place under a name (default: its own) with a drop-in, and has systemd read both. */
  install(unit: UnitName, dropIn: string, name?: string): Promise<void>;
  stop(): Promise<void>;
}

/** @param directory existing; the boot's files are in it until `stop` */
export async function bootUnitsNode(directory: string): Promise<UnitsNode> {
  const inside = await bootPrivateSystemd({ stateDir: directory });
  const run = (...argv: string[]): Promise<Ended> => startCommand(inside.nsenter(argv)).ended;
  const systemctl = async (...args: string[]): Promise<string> => {
    for (let attempt = 1; ; attempt += 1) {
      const { exitCode, stdout, stderr } = await run('systemctl', ...args);
      if (exitCode === 0) return stdout;
      if (attempt === ATTEMPTS)
        throw new Error(`systemctl ${args.join(' ')} ended with ${String(exitCode)}: ${stderr}`);
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
  };
  return {
    inside,
    run,
    systemctl,
    install: async (unit, dropIn, name = unit) => {
      const folder = join(inside.root, INSIDE);
      mkdirSync(join(folder, `${name}.d`), { recursive: true });
      writeFileSync(join(folder, name), readFileSync(join(UNITS, unit)));
      writeFileSync(join(folder, `${name}.d`, 'here.conf'), dropIn);
      await systemctl('daemon-reload');
    },
    stop: () => inside.stop(),
  };
}

/** A command line as a unit file wants it: systemd.service(5), "Command lines". */
export function execLine(argv: readonly string[]): string {
  const quote = (argument: string): string =>
    `"${argument.replaceAll(/["\\]/g, '\\$&').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`;
  return argv.map(quote).join(' ');
}
