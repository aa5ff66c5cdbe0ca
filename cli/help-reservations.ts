/** Help texts of the commands about reservations; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

/** By the names of the commands. */
export const RESERVATIONS_HELP: Readonly<Record<string, CommandHelp>> = {
  reserve: {
    description: `Keeps something of a node for a role: it is offered to frameworks of that role
and of roles below it (eng: eng/prod as well), and to nobody else. Offers that
are in the way are taken back, tasks never. With --from it is a part of what is
reserved for a role above, and is that one's again when it is unreserved.`,
    syntax: '[options] AGENT ROLE LIST',
    after: `
AGENT is the id of an agent, its host name, or the beginning of its id. The
reservation holds over restarts of everything, until kaon unreserve.

Examples:
  kaon reserve node7 eng cpus=8,mem=32G
  kaon reserve node7 eng/prod cpus=2,mem=8G --from r1.k3x9a2.17
  kaon reservations

Exit code: 0 it is kept; 1 refused, because tasks have it for example.
`,
  },
  unreserve: {
    description: `Ends a reservation: what was kept is offered to everybody, or belongs to the
reservation that it was a part of. Refused while tasks use any of it, or a part
of it is reserved further; and for what the settings of an agent reserve.`,
    syntax: 'AGENT RESERVATION',
    after: `
Examples:
  kaon unreserve node7 r1.k3x9a2.17
`,
  },
  reservations: {
    description: `What is kept for roles, node by node. FROM is the reservation that it is a part
of; settings: it is from the settings of the agent (--reserve-for). What a part
has is not counted once more in USED of what it is a part of.`,
    syntax: '[options]',
    after: `
Examples:
  kaon reservations
  kaon reservations --json | jq '.[] | select(.role == "eng")'
`,
  },
};
