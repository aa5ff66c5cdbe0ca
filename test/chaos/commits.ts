/**
 * Who wrote as leader, as Redis saw it: MONITOR shows each commit script with its token, and the `SET` of the cursor
 * inside the script only if the script took it. So a leader that was refused is told from one that wrote.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerAddress } from '../beds/redis-process.ts';
import { connectTo } from './gateway.ts';

/** One commit that Redis has taken. */
export interface TakenCommit {
  readonly atMs: number;
  readonly epoch: number;
  readonly masterId: string;
  /** Grows whenever Redis has lost data, the epochs among it: emptied, or failed over. */
  readonly life: number;
  /** Something was sent to an agent. */
  readonly isToAgents: boolean;
}

/** Between two looks for a Redis that is away, and for its answer. */
const RETRY_MS = 20;
/** Leader, cursor and inbox are the first keys of the commit; the token, its number and a stream id follow the keys. */
const SCRIPT = /\] "EVAL(?:SHA)?" "[^"]*" "\d+" "[^"]*:leader" "[^"]*:cursor" "[^"]*:inbox" /i;
const TOKEN = /" "(\d+) ([^" ]+)" "\d+" "\d+-\d+"/;
const SENT_TO_AGENT = /\[\d+ lua\] "XADD" "[^"]*\}:agent:/i;
const TAKEN = /\[\d+ lua\] "SET" "[^"]*:cursor"/i;
const EMPTIED = /\] "FLUSHALL"/i;

export interface CommitReader {
  /** Takes lines of MONITOR, in order. @returns the commit that a line proves to have been taken */
  read(line: string): TakenCommit | undefined;
  /** Redis is another one from here on. */
  nextLife(): void;
}

/** @param onLoss called at the end of each life */
export function commitReader(onLoss: () => void = () => undefined): CommitReader {
  let life = 0;
  const nextLife = (): void => {
    life += 1;
    onLoss();
  };
  let asked: { epoch: number; masterId: string; isToAgents: boolean } | undefined;
  const begin = (line: string): void => {
    if (EMPTIED.test(line)) nextLife();
    const [, epoch, masterId] = (SCRIPT.test(line) && TOKEN.exec(line)) || [];
    asked =
      masterId === undefined ? undefined : { epoch: Number(epoch), masterId, isToAgents: false };
  };
  return {
    nextLife,
    read: (line) => {
      if (!line.includes(' lua] ')) begin(line);
      if (asked && SENT_TO_AGENT.test(line)) asked.isToAgents = true;
      if (!asked || !TAKEN.test(line)) return undefined;
      const taken = { ...asked, life, atMs: Date.now() };
      asked = undefined;
      return taken;
    },
  };
}

export class CommitWatch {
  readonly taken: TakenCommit[] = [];
  /** When Redis lost data, as far as it was seen here. */
  readonly lossesMs: number[] = [];
  readonly #target: () => ServerAddress;
  readonly #reader = commitReader(() => this.lossesMs.push(Date.now()));
  #socket: Socket | undefined;
  /** Redis has answered MONITOR: everything from then on is shown. */
  #isShown = false;
  #isStopped = false;

  /** @param target where the primary is */
  constructor(target: () => ServerAddress) {
    this.#target = target;
    this.#connect();
  }

  stop(): void {
    this.#isStopped = true;
    this.#socket?.destroy();
  }

  /** The primary is another server now. */
  follow(): void {
    this.#reader.nextLife();
    this.#isShown = false;
    this.#socket?.destroy();
  }

  /** Resolves once nothing that Redis takes is missed; it may have been away. */
  async ready(): Promise<void> {
    while (!this.#isShown && !this.#isStopped) await sleep(RETRY_MS);
  }

  #connect(): void {
    if (this.#isStopped) return;
    const socket = connectTo(this.#target());
    this.#socket = socket;
    let rest = '';
    socket.on('connect', () => socket.write('MONITOR\r\n'));
    socket.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('latin1')).split('\r\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line === '+OK') this.#isShown = true;
        const taken = this.#reader.read(line);
        if (taken) this.taken.push(taken);
      }
    });
    socket.on('error', () => undefined); // `close` follows.
    socket.on('close', () => {
      this.#isShown = false;
      setTimeout(() => this.#connect(), RETRY_MS);
    });
  }
}
