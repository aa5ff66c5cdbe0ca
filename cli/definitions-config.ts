/** The commands about configuration files; see `definitions.ts`. */
import type { Definition } from './definition.ts';
import { flag, json } from './definition.ts';

const fileOption = () => flag('--config <file>', 'the file (default: that in /etc/kaon)');

const CONFIG_CHECK: Definition = {
  usage: 'check [daemon]',
  summary: 'says what is wrong with the files of master, agent or bullmq',
  options: [fileOption()],
  action: async (raw, _connection, [daemon]) => {
    const { checkConfig } = await import('./commands/config.ts');
    return checkConfig(raw, daemon);
  },
};

const CONFIG_SHOW: Definition = {
  usage: 'show <daemon>',
  summary: 'each setting of a daemon, and where its value comes from',
  options: [fileOption(), json()],
  action: async (raw, _connection, [daemon = '']) => {
    const { showConfig } = await import('./commands/config.ts');
    return showConfig(raw, daemon);
  },
};

/** `kaon config`, and what is under it. */
export const CONFIG: Definition = {
  usage: 'config',
  summary: 'configuration files: config check, config show DAEMON',
  options: [],
  commands: [CONFIG_CHECK, CONFIG_SHOW],
  action: async (_raw, _connection, [asked]) => {
    const { usageError } = await import('./failure.ts');
    const what = asked === undefined ? 'what about it?' : `no such command: config ${asked}`;
    throw usageError(`${what} kaon config check, or kaon config show DAEMON`);
  },
};
