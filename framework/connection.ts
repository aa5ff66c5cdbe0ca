/**
 * A driver's way to the cluster: the store, the mailbox in it, and the search for a master. It knows nothing of what is said.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { Mailbox } from '../io/mailbox.ts';
import { explainRedisError } from '../io/redis-errors.ts';
import { openRedisStore } from '../io/redis-store.ts';
import type { Store } from '../io/store.ts';
import type { Token } from '../io/tokens.ts';
import { messageOf } from '../protocol/errors.ts';
import { frameworkName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import type { FrameworkInfo } from '../protocol/task.ts';
import type { ClusterAddress } from './environment.ts';
import { MasterDetector } from './master-detector.ts';
import type { MasterInfo } from './scheduler.ts';

/** Where to, as whom, and who hears of it. */
export interface ConnectionOptions {
  readonly info: FrameworkInfo;
  readonly address: ClusterAddress;
  readonly clock: Clock;
  readonly log: Log;
  /** Of a secured cluster; @throws KaonError `token-malformed`, `credential` */
  readonly findToken: () => Token | undefined;
  /** Used instead of opening one, and not closed. */
  readonly store: Store | undefined;
  readonly onMessages: (messages: readonly Message[]) => Promise<void>;
  /** It is over: another process has registered with this framework id, or the user of Redis may not do this. */
  readonly onEnd: (message: string) => void;
  /** A master leads. */
  readonly onMaster: (master: MasterInfo) => void;
  /** None has led for a while. */
  readonly onNoMaster: () => void;
}

/** One framework's connection, from `open` to `close`; it is not opened again. */
export class Connection {
  readonly #options: ConnectionOptions;
  #info: FrameworkInfo;
  #store: Store | undefined;
  #mailbox: Mailbox | undefined;
  #detector: MasterDetector | undefined;
  /** Said before there was a mailbox. */
  #early: Message[] = [];
  #isRegistering = false;
  #isClosed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#info = options.info;
  }

  /** Undefined before it is open. */
  get store(): Store | undefined {
    return this.#store;
  }

  /**
   * Connects and looks for a master; the first one that is found makes the framework register (steps F4 and F5).
   *
   * @throws KaonError `redis-unreachable`, `redis-url`, `token-malformed`
   */
  async open(): Promise<void> {
    const { info, clock, log, address, onMessages, onEnd, onNoMaster } = this.#options;
    const name = `framework-${info.name}`;
    const token = this.#options.store ? undefined : this.#options.findToken();
    this.#store = await (this.#options.store ?? openRedisStore({ ...address, log, name, token }));
    if (this.#isClosed) {
      await this.#closeStore();
      return;
    }
    const onForbidden = (error: unknown): void => {
      onEnd(forbiddenMessage(info.frameworkId, error));
    };
    this.#mailbox = new Mailbox({
      store: this.#store,
      clock,
      log,
      client: frameworkName(info.frameworkId),
      register: (session) => [{ type: 'RegisterFramework', framework: this.#info, session }],
      onMessages,
      onMoved: () => {
        onEnd('framework failed over: another scheduler has registered with this framework id');
      },
      onForbidden,
    });
    this.#mailbox.send(...this.#early);
    this.#early = [];
    this.#detector = MasterDetector.create({
      store: this.#store,
      clock,
      log,
      newMasterDetected: (master) => {
        this.#newMasterDetected(master);
      },
      noMasterDetected: onNoMaster,
      onForbidden,
    });
  }

  /** Later masters know the framework from the registry. */
  #newMasterDetected(master: MasterInfo): void {
    const { log, onMaster } = this.#options;
    log.info('master.detected', { masterId: master.masterId, epoch: master.epoch });
    if (!this.#isRegistering) {
      this.#isRegistering = true;
      this.#mailbox?.start();
    }
    onMaster(master);
  }

  /** As what the framework registers. */
  get info(): FrameworkInfo {
    return this.#info;
  }

  /** From the next registration on; the one that is in force is not touched. */
  set info(info: FrameworkInfo) {
    this.#info = info;
  }

  /** In order; what is said before the registration follows it. */
  send(message: Message): void {
    if (this.#mailbox) this.#mailbox.send(message);
    else this.#early.push(message);
  }

  /** Resolves when this, and all that was said before, is in the inbox. Nobody is told of a framework that never registered. */
  async sendLast(message: Message): Promise<void> {
    await this.#mailbox?.sendLast(message);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#detector?.stop();
    this.#mailbox?.stop();
    await this.#closeStore();
  }

  async #closeStore(): Promise<void> {
    if (!this.#options.store) await this.#store?.close();
  }
}

function forbiddenMessage(frameworkId: string, error: unknown): string {
  const { text } = explainRedisError(error);
  const hint =
    'it takes one for frameworks of this name, or for operators: kaon join-token create --role framework';
  return `cannot be framework ${frameworkId}: ${text} (${messageOf(error)}); ${hint}`;
}
