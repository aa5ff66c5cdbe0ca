/** A node: a private systemd, the agent as its unit file starts it, and a small disk of its own for what the agent keeps. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bootUnitsNode, execLine, type UnitsNode } from '../beds/cluster-units.ts';
import type { Reboot } from './checks.ts';
import { Gateway } from './gateway.ts';
import type { Surroundings } from './surroundings.ts';

const AGENT = 'kaon-agent.service';
const DISK = '16m';
const RESOURCES = 'cpus=2,mem=512M';

export class Node {
  readonly agentId: string;
  readonly gateway: Gateway;
  readonly reboots: Reboot[] = [];
  readonly #surroundings: Surroundings;
  readonly #directory: string;
  /** The agent's own files, on the small disk. */
  readonly #disk: string;
  #units!: UnitsNode;

  private constructor(surroundings: Surroundings, agentId: string, gateway: Gateway) {
    this.#surroundings = surroundings;
    this.agentId = agentId;
    this.gateway = gateway;
    this.#directory = join(surroundings.directory, agentId);
    this.#disk = join(this.#directory, 'state', 'agent');
  }

  static async start(surroundings: Surroundings, index: number): Promise<Node> {
    const agentId = `node-${String(index)}`;
    const { directory, redis, chronicle } = surroundings;
    const gateway = await Gateway.open(join(directory, `${agentId}.sock`), () => redis.address);
    const node = new Node(surroundings, agentId, gateway);
    mkdirSync(join(node.#directory, 'boot'), { recursive: true });
    mkdirSync(node.#disk, { recursive: true });
    // In the mount namespace that the campaign was started in: nobody else sees it, and it goes with us.
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK},mode=711`, 'tmpfs', node.#disk]);
    chronicle.follow(agentId, join(node.#directory, 'agent.log'));
    await node.#boot();
    return node;
  }

  systemctl(...args: string[]): Promise<string> {
    return this.#units.systemctl(...args);
  }

  /** Ends the node as a power cut does, and boots it again. */
  async reboot(downMs: number): Promise<void> {
    const fromMs = Date.now();
    try {
      await this.#units.stop();
      await new Promise((done) => setTimeout(done, downMs));
      await this.#boot();
    } finally {
      // One that does not come up has ended its tasks all the same.
      this.reboots.push({ agentId: this.agentId, fromMs, toMs: Date.now() });
    }
  }

  async killBus(): Promise<void> {
    await this.#units.run('pkill', '-KILL', '-x', 'dbus-daemon');
  }

  fillDisk(): void {
    try {
      writeFileSync(join(this.#disk, 'fill'), Buffer.alloc(64 << 20));
    } catch {
      // ENOSPC is what was wanted: the file has all that there was.
    }
  }

  clearDisk(): void {
    rmSync(join(this.#disk, 'fill'), { force: true });
  }

  /** Everything of tasks that is still there: checkpoints, units, slices. */
  async leftovers(): Promise<string[]> {
    const list = [
      'list-units',
      '--all',
      '--plain',
      '--no-legend',
      'kaon*.service',
      'kaon*.slice',
      'kaon*.timer',
    ];
    const units = (await this.systemctl(...list))
      .split('\n')
      .map((line) => line.trim().split(/\s+/)[0] ?? '')
      .filter((name) => !/^$|^kaon\.slice$|^kaon-agent\.service$|^kaon-keeper-/.test(name));
    const checkpoints = readdirSync(join(this.#disk, 'live'));
    return [
      ...units.map((name) => `${this.agentId}: unit ${name}`),
      ...checkpoints.map((name) => `${this.agentId}: checkpoint ${name}`),
    ];
  }

  async stop(): Promise<void> {
    await this.#units.stop();
    await this.gateway.close();
    execFileSync('umount', ['--lazy', this.#disk]);
  }

  async #boot(): Promise<void> {
    const { kaon, environment, redis } = this.#surroundings;
    this.#units = await bootUnitsNode(join(this.#directory, 'boot'));
    const url = redis.url ?? this.gateway.url;
    const argv = [...kaon, 'agent', '--redis', url, '--agent-id', this.agentId];
    argv.push('--state-dir', join(this.#directory, 'state'), '--resources', RESOURCES);
    // Tasks write what they did beside the nodes' directories, in files that all of them append to.
    argv.push('--expose', dirname(this.#directory), '--task-user', 'root', '--allow-root');
    const log = `append:${join(this.#directory, 'agent.log')}`;
    const settings = Object.entries(environment).map(
      ([key, value]) => `Environment=${key}=${value}`,
    );
    const lines = ['[Service]', 'ExecStart=', `ExecStart=${execLine(argv)}`, ...settings];
    lines.push(`StandardOutput=${log}`, `StandardError=${log}`, 'RestartSec=300ms', '');
    await this.#units.install(AGENT, lines.join('\n'));
    await this.systemctl('start', AGENT);
  }
}
