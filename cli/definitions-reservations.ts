/** The commands about reservations, and the flag of agents; see `definitions.ts`. */
import type { Option } from 'commander';
import type { Definition } from './definition.ts';
import { flag, json, repeated } from './definition.ts';

/** `--reserve-for`. */
export const reserveFor = (): Option =>
  repeated('--reserve-for <role:list>', 'kept for a role: eng:cpus=2,mem=4G; may be repeated');

/** `kaon reserve`. */
export const RESERVE: Definition = {
  usage: 'reserve <agent> <role> <list>',
  summary: 'keep something of a node for a role: cpus=2,mem=4G',
  options: [
    repeated('--label <key=value>', 'for frameworks, which see it in offers; may be repeated'),
    flag('--from <reservation>', 'of what is reserved for a role above (default: of the rest)'),
  ],
  action: async (raw, connection, [agent = '', role = '', list = '']) => {
    const { parseReserve } = await import('./reservation-options.ts');
    const wish = parseReserve(raw, role, list);
    const { reserve } = await import('./commands/reserve.ts');
    return reserve(connection, agent, wish);
  },
};

/** `kaon unreserve`. */
export const UNRESERVE: Definition = {
  usage: 'unreserve <agent> <reservation>',
  summary: 'end a reservation that nothing is used of',
  options: [flag('--destroy', 'and remove for good what tasks have left in its directory')],
  action: async (raw, connection, [agent = '', reservation = '']) => {
    const { unreserve } = await import('./commands/reserve.ts');
    return unreserve(connection, agent, reservation, raw['destroy'] === true);
  },
};

/** `kaon reservations`. */
export const RESERVATIONS: Definition = {
  usage: 'reservations',
  summary: 'what is kept for roles on which nodes, and what is used of it',
  options: [flag('-w, --wide', 'with labels, and nothing cut to fit the terminal'), json()],
  action: async (raw, connection) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { reservations } = await import('./commands/reservations.ts');
    return reservations(parseListOptions(raw, connection));
  },
};
