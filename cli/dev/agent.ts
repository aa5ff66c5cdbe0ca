/**
 * The agent of `kaon dev`, where this machine can run one: as a child beside the machine's own systemd, or as a service
 * of a private systemd where process 1 is something else.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentDirectory } from '../../agent/files.ts';
import { agentUnitPattern, fencePattern, keeperUnit } from '../../agent/core/unit-names.ts';
import { storedAgentTag } from '../../agent/identity.ts';
import { KaonError, messageOf } from '../../protocol/errors.ts';
import { createSystemd } from '../../systemd/manager.ts';
import type { PrivateSystemd } from '../../systemd/private/boot.ts';
import { bootPrivateSystemd, privateSystemdReason } from '../../systemd/private/boot.ts';
import { EXIT_CONFIG } from '../failure.ts';
import { startChild } from './children.ts';

/** The agent's unit in a private systemd. */
export const AGENT_UNIT = 'kaon-agent.service';

/** A running agent, wherever it is. */
export interface DevAgent {
  /** For people: `systemd of this machine`, or `private systemd, process 1 is 4711`. */
  readonly where: string;
  /** To type in front of `systemctl` and the like; empty where none is needed. */
  readonly enter: string;
  readonly exited: Promise<unknown>;
  /** Ends the agent and everything that its tasks have left. */
  stop(): Promise<void>;
}

/** @returns which way an agent can run here @throws KaonError `no-systemd` with what to do */
export function agentPlace(): 'machine' | 'private' {
  const isRoot = process.getuid?.() === 0;
  const isSystemd =
    existsSync('/run/systemd/system') && readFileSync('/proc/1/comm', 'utf8').trim() === 'systemd';
  if (isSystemd && isRoot) return 'machine';
  if (isSystemd) {
    throw new KaonError(
      'no-systemd',
      'kaon dev needs root to start units in the systemd of this machine',
      {
        hint: 'run it with sudo',
      },
    );
  }
  const reason = privateSystemdReason();
  if (reason === undefined) return 'private';
  throw new KaonError(
    'no-systemd',
    `process 1 of this machine is not systemd, and a private one cannot run here: ${reason}`,
    {
      hint: 'run kaon dev as root on Linux, in a container with --privileged, or on a machine that systemd booted',
    },
  );
}

/** @param argv the agent's command line, program first */
export async function startAgent(stateDir: string, argv: readonly string[]): Promise<DevAgent> {
  const logPath = logPathIn(stateDir);
  if (agentPlace() === 'machine') return startBesideSystemd(stateDir, argv);
  let systemd: PrivateSystemd;
  try {
    systemd = await bootPrivateSystemd({
      stateDir,
      extraUnits: { [AGENT_UNIT]: agentUnit(logPath, argv) },
    });
  } catch (cause) {
    throw new KaonError('no-systemd', messageOf(cause), {
      cause,
      hint: 'kaon dev --help says what it needs',
    });
  }
  return {
    where: `private systemd (pid ${String(systemd.pid)})`,
    enter: systemd.nsenter([]).join(' ').replace(/ --$/, ''),
    exited: systemd.exited,
    stop: () => systemd.stop(),
  };
}

function logPathIn(stateDir: string): string {
  return join(stateDir, 'agent.log');
}

function startBesideSystemd(stateDir: string, argv: readonly string[]): DevAgent {
  const child = startChild({ name: 'agent', logPath: logPathIn(stateDir), argv });
  return {
    where: 'systemd of this machine',
    enter: '',
    exited: child.exited,
    stop: async () => {
      await child.stop();
      await releaseAll(stateDir);
    },
  };
}

/** The machine's systemd stays, so what this agent, and no other one, started in it has to be ended one by one. */
async function releaseAll(stateDir: string): Promise<void> {
  const tag = storedAgentTag(agentDirectory(stateDir));
  if (tag === undefined) return; // It never came so far.
  const systemd = createSystemd();
  try {
    const tasks = (await systemd.listUnits(agentUnitPattern(tag))).map(({ name }) => name);
    await Promise.all([...tasks, keeperUnit(tag)].map((name) => systemd.releaseUnit(name)));
    for (const { name } of await systemd.listUnits(fencePattern(tag))) {
      await systemd.removeFence(name.replace(/\.timer$/, ''));
    }
  } finally {
    await systemd.close();
  }
}

/** The agent as systemd starts it: restarted when it dies, and its death touches no task. */
function agentUnit(logPath: string, argv: readonly string[]): string {
  return `[Unit]
Description=Kaon agent
StartLimitIntervalSec=0
[Service]
ExecStart=${argv.map(quote).join(' ')}
Restart=always
RestartSec=200ms
# Refused: another start would end in the same way.
RestartPreventExitStatus=${String(EXIT_CONFIG)}
StandardOutput=append:${logPath}
StandardError=append:${logPath}
`;
}

/** systemd.service(5), "Command lines": percent signs and dollars are doubled, quotes and backslashes escaped. */
function quote(argument: string): string {
  const escaped = argument
    .replaceAll(/["\\]/g, '\\$&')
    .replaceAll('%', '%%')
    .replaceAll('$', '$$$$');
  return `"${escaped}"`;
}
