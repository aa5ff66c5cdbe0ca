import { afterEach, describe, expect, test } from '@jest/globals';
import { createLog } from '../../../io/log.ts';
import { createNotifier } from '../../../io/notify.ts';
import {
  mapSettings,
  reloadOnHangup,
  type DaemonSettings,
  type Service,
  type Setting,
} from '../../../io/service.ts';
import { KaonError } from '../../../protocol/errors.ts';

interface Options {
  readonly timeout: string;
}

const list = (values: Readonly<Record<string, string>>): Setting[] =>
  Object.entries(values).map(([key, value]) => ({ key, value, source: 'kaon.toml:1' }));

/** A service whose settings are read again on SIGHUP: `next` says what is found then. */
function scene(): {
  next: (read: () => Readonly<Record<string, string>>) => Promise<void>;
  lines: string[];
  told: string[];
  applied: string[];
} {
  const lines: string[] = [];
  const told: string[] = [];
  const applied: string[] = [];
  let read: () => Readonly<Record<string, string>> = () => ({});
  const log = createLog({ journal: true, write: (line) => lines.push(line.trim()) });
  const notifier = createNotifier({
    setup: { socket: '/x' },
    log,
    send: (variables) => {
      told.push(variables.join(' '));
      return Promise.resolve();
    },
  });
  const service: Service = {
    ...{ log, notifier, isNotified: true },
    begin: () => undefined,
    look: () => undefined,
    end: () => undefined,
  };
  const of = (values: Readonly<Record<string, string>>): DaemonSettings<Options> => ({
    options: { timeout: values['timeout'] ?? '' },
    list: list(values),
    reread: () => of(read()),
  });
  reloadOnHangup({
    ...{ service, settings: of({ timeout: '3s', redis: 'a' }), liveKeys: ['timeout'] },
    apply: ({ timeout }) => {
      if (timeout === 'refused') throw new KaonError('no-resources', 'nothing is left to offer');
      applied.push(timeout);
    },
  });
  return {
    ...{ lines, told, applied },
    next: async (found) => {
      read = found;
      process.emit('SIGHUP');
      await notifier.sent();
    },
  };
}

afterEach(() => {
  process.removeAllListeners('SIGHUP');
});

describe('settings that are read again', () => {
  test('are applied as far as that can be, and what needs a restart is said', async () => {
    const { next, lines, told, applied } = scene();
    await next(() => ({ timeout: '9s', redis: 'b' }));
    expect(applied).toEqual(['9s']);
    expect(lines).toEqual([
      '<6>setting.changed key=timeout before=3s value=9s source=kaon.toml:1 effect=now',
      '<4>setting.changed key=redis before=a value=b source=kaon.toml:1 effect="after a restart"',
      '<6>settings.read changed=2 applied=1',
    ]);
    expect(told).toEqual(['RELOADING=1', 'READY=1']);
  });

  test('say again what needs a restart until there has been one, and not what is in force', async () => {
    const { next, lines, applied } = scene();
    await next(() => ({ timeout: '9s', redis: 'b' }));
    lines.length = 0;
    await next(() => ({ timeout: '9s', redis: 'b' }));
    expect(applied).toEqual(['9s']);
    expect(lines).toEqual([
      '<4>setting.changed key=redis before=a value=b source=kaon.toml:1 effect="after a restart"',
      '<6>settings.read changed=1 applied=0',
    ]);
  });

  test('stay as they were if the file is wrong, and the daemon is ready all the same', async () => {
    const { next, lines, told, applied } = scene();
    await next(() => {
      throw new KaonError('config-invalid', 'kaon.toml:1: unknown setting "x"');
    });
    expect(applied).toEqual([]);
    expect(lines).toEqual([
      '<3>settings.not-read error="kaon.toml:1: unknown setting \\"x\\"" effect="the old ones stay"',
    ]);
    expect(told).toEqual(['RELOADING=1', 'READY=1']);
  });

  test('stay as they were if they cannot be applied', async () => {
    const { next, lines, applied } = scene();
    await next(() => ({ timeout: 'refused', redis: 'a' }));
    expect(lines).toEqual([
      '<3>settings.not-read error="nothing is left to offer" effect="the old ones stay"',
    ]);
    await next(() => ({ timeout: '9s', redis: 'a' }));
    expect(applied).toEqual(['9s']);
  });

  test('are none without a file: SIGHUP is the end of a terminal then', () => {
    const settings = { options: {}, list: [] };
    const service = {} as Service;
    reloadOnHangup({ service, settings, liveKeys: [], apply: () => undefined });
    expect(process.listenerCount('SIGHUP')).toBe(0);
  });

  test('have the names that the daemon calls them by', () => {
    const settings = { options: 1, list: [], reread: () => ({ options: 2, list: [] }) };
    const mapped = mapSettings(settings, String);
    expect([mapped.options, mapped.reread?.().options]).toEqual(['1', '2']);
  });
});
