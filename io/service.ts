/**
 * A daemon as a service: its log, what it tells systemd, and its settings, which may be read again while it runs. Each
 * daemon's `main.ts` opens one, says what it is doing, and closes it.
 */
import type { Redis } from 'ioredis';
import { messageOf } from '../protocol/errors.ts';
import { takeJournal } from './journal.ts';
import type { DaemonLog, LogLevel } from './log.ts';
import { createLog } from './log.ts';
import type { Notifier } from './notify.ts';
import { createNotifier, takeNotifySetup } from './notify.ts';
import { hidePassword } from './redis-url.ts';

/** So often it is looked what the daemon is doing, and told if that has changed, milliseconds. */
const LOOK_MS = 2000;

/** A setting that is in force, and where it comes from. */
export interface Setting {
  /** Name of the flag without its dashes. */
  readonly key: string;
  /** As it may be shown; absent: it has no value. */
  readonly value: string | undefined;
  /** `flag`, `environment KAON_REDIS`, `/etc/kaon/master.toml:3` or `default`. */
  readonly source: string;
}

/** What a daemon was started with. */
export interface DaemonSettings<T> {
  readonly options: T;
  readonly list: readonly Setting[];
  /** Reads them all again; absent: there is no file. @throws KaonError that names what is wrong */
  readonly reread?: () => DaemonSettings<T>;
}

/** @returns the same settings for whoever calls the options by other names */
export function mapSettings<T, U>(
  settings: DaemonSettings<T>,
  map: (options: T) => U,
): DaemonSettings<U> {
  const { options, list, reread } = settings;
  return {
    ...{ options: map(options), list },
    ...(reread && { reread: () => mapSettings(reread(), map) }),
  };
}

/** What a daemon has of the world that it serves. */
export interface Service {
  readonly log: DaemonLog;
  readonly notifier: Notifier;
  /** systemd waits for it; nobody sits in front of it. */
  readonly isNotified: boolean;
  /**
   * Ready; from now on it is told what the daemon is doing.
   *
   * @param statusOf one line, for people
   * @param waitsFor why the main loop cannot come round although the daemon lives: `Redis at ...`; undefined if it can
   */
  begin(statusOf: () => string, waitsFor: () => string | undefined): void;
  /** What it is doing has changed: it is told at once. Before `begin` it does nothing. */
  look(): void;
  /** Nothing is told any more but that it stops. */
  end(): void;
}

/** @param name of the daemon in the journal: `kaon-master` */
export function openService(name: string, level: LogLevel): Service {
  const { env: environment, pid } = process;
  const log = createLog({
    ...{ level, identifier: name, writeEntry: takeJournal(environment) },
    journal: environment['JOURNAL_STREAM'] !== undefined,
  });
  const setup = takeNotifySetup(environment, pid);
  const notifier = createNotifier({ setup, log });
  let timer: NodeJS.Timeout | undefined;
  let look: () => void = () => undefined;
  return {
    log,
    notifier,
    isNotified: setup !== undefined,
    begin: (statusOf, waitsFor) => {
      look = () => {
        const reason = waitsFor();
        notifier.status(reason === undefined ? statusOf() : `waiting for ${reason}`);
        // A loop that waits for Redis does not come round, and to be started again would not help it.
        if (reason !== undefined) notifier.alive();
      };
      notifier.ready();
      look();
      timer = setInterval(look, LOOK_MS);
    },
    look: () => {
      look();
    },
    end: () => {
      clearInterval(timer);
      look = () => undefined;
      notifier.stopping();
      notifier.status('stopping');
    },
  };
}

/** @returns a function that says why Redis is not reached, in words; undefined while it is */
export function watchReach(redis: Redis, url: string): () => string | undefined {
  let error = '';
  redis.on('error', (failure: unknown) => {
    error = `: ${messageOf(failure)}`;
  });
  redis.on('ready', () => {
    error = '';
  });
  return () => (redis.status === 'ready' ? undefined : `Redis at ${hidePassword(url)}${error}`);
}

/** One line for each setting that has a value: where it comes from is what people ask first. */
export function logSettings(log: DaemonLog, list: readonly Setting[]): void {
  for (const { key, value, source } of list) {
    if (value !== undefined) log.info('setting', { key, value, source });
  }
}

/** What a daemon does with settings that were read again. */
export interface ReloadOptions<T> {
  readonly service: Service;
  readonly settings: DaemonSettings<T>;
  /** Keys that can be changed while it runs; the others need a restart. */
  readonly liveKeys: readonly string[];
  /** Called only if one of those has changed. */
  readonly apply: (options: T) => void;
}

/**
 * Reads the settings again on SIGHUP. Without a file there is nothing to read, and SIGHUP stays what it was: the end of a
 * terminal.
 */
export function reloadOnHangup<T>(options: ReloadOptions<T>): void {
  if (!options.settings.reread) return;
  const inForce = new Map(options.settings.list.map((setting) => [setting.key, setting.value]));
  process.on('SIGHUP', () => {
    reload(options, inForce);
  });
}

function reload<T>(
  { service: { log, notifier }, settings, liveKeys, apply }: ReloadOptions<T>,
  inForce: Map<string, string | undefined>,
): void {
  notifier.reloading();
  try {
    const next = settings.reread?.() ?? settings;
    const changed = next.list.filter(({ key, value }) => inForce.get(key) !== value);
    const applied = changed.filter(({ key }) => liveKeys.includes(key));
    if (applied.length > 0) apply(next.options);
    for (const { key, value = '', source } of changed) {
      const isApplied = liveKeys.includes(key);
      const before = inForce.get(key) ?? '';
      const effect = isApplied ? 'now' : 'after a restart';
      log[isApplied ? 'info' : 'warn']('setting.changed', { key, before, value, source, effect });
    }
    for (const { key, value } of applied) inForce.set(key, value);
    log.info('settings.read', { changed: changed.length, applied: applied.length });
  } catch (error) {
    log.error('settings.not-read', { error: messageOf(error), effect: 'the old ones stay' });
  }
  notifier.ready();
}
