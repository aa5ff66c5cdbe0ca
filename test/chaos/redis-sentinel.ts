/** A Redis that Sentinel watches: a pause or a crash of the primary ends in a failover, as it would in production. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ask, LOOPBACK, type ServerAddress } from '../beds/redis-process.ts';
import { startSentinelBed, type SentinelBed } from '../beds/redis-sentinel.ts';
import type { ChaosRedis } from './redis-pair.ts';

const LOOK_MS = 200;

export class WatchedRedis implements ChaosRedis {
  readonly #bed: SentinelBed;
  readonly #onFailover: () => void;
  #port: number;
  readonly #timer: NodeJS.Timeout;

  private constructor(bed: SentinelBed, port: number, onFailover: () => void) {
    this.#bed = bed;
    this.#port = port;
    this.#onFailover = onFailover;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  /** @param onFailover called when Sentinel names another primary */
  static async start(onFailover: () => void): Promise<WatchedRedis> {
    const bed = await startSentinelBed();
    return new WatchedRedis(bed, await bed.masterPort(), onFailover);
  }

  get url(): string {
    return this.#bed.url;
  }

  get address(): ServerAddress {
    return { host: LOOPBACK, port: this.#port };
  }

  call(command: string, ...args: string[]): Promise<unknown> {
    return ask(this.address, (redis) => redis.call(command, ...args));
  }

  async pause(forMs: number): Promise<void> {
    await this.#bed.pauseMaster();
    await sleep(forMs);
    this.#bed.resume();
  }

  async crash(downMs: number): Promise<void> {
    await this.#bed.killMaster();
    await this.#bed.waitForFailover();
    await sleep(downMs);
    await this.#bed.restartKilled();
  }

  async failOver(lostMs: number): Promise<void> {
    if (lostMs > 0) await this.#bed.pauseReplication();
    await sleep(lostMs);
    await this.crash(0);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#bed.stop();
  }

  async #look(): Promise<void> {
    const port = await this.#bed.masterPort().catch(() => this.#port);
    if (port === this.#port) return;
    this.#port = port;
    this.#onFailover();
  }
}
