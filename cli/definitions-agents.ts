/** The commands by which nodes are emptied, or not offered; see `definitions.ts`. */
import type { Definition } from './definition.ts';
import { flag } from './definition.ts';

/** `kaon drain`. */
export const DRAIN: Definition = {
  usage: 'drain <agent>',
  summary: 'empty a node: not offered any more, frameworks are told',
  options: [
    flag('--in <duration>', 'begin later, a maintenance window: 2h', '0s'),
    flag('--deadline <duration>', 'kill what is left of its tasks so long after that: 10m'),
  ],
  action: async (raw, connection, [agent = '']) => {
    const { parseDrain } = await import('./role-options.ts');
    const options = { ...connection, ...parseDrain(raw) };
    const { drain } = await import('./commands/drain.ts');
    return drain(options, agent);
  },
};

/** `kaon undrain`. */
export const UNDRAIN: Definition = {
  usage: 'undrain <agent>',
  summary: 'offer a node again that was drained',
  options: [],
  action: async (_raw, connection, [agent = '']) => {
    const { undrain } = await import('./commands/drain.ts');
    return undrain(connection, agent);
  },
};

/** `kaon deactivate`. */
export const DEACTIVATE: Definition = {
  usage: 'deactivate <agent>',
  summary: 'offer a node no more; what runs there goes on',
  options: [],
  action: async (_raw, connection, [agent = '']) => {
    const { deactivate } = await import('./commands/deactivate.ts');
    return deactivate(connection, agent);
  },
};

/** `kaon reactivate`. */
export const REACTIVATE: Definition = {
  usage: 'reactivate <agent>',
  summary: 'offer a node again that was deactivated',
  options: [],
  action: async (_raw, connection, [agent = '']) => {
    const { reactivate } = await import('./commands/deactivate.ts');
    return reactivate(connection, agent);
  },
};
