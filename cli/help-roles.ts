/** Help texts of the commands about roles; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

/** By the names of the commands. */
export const ROLES_HELP: Readonly<Record<string, CommandHelp>> = {
  roles: {
    description: `The roles that frameworks work under, as a tree: eng/prod is below eng, and what
it holds counts for eng as well. SHARE is the largest fraction of the cluster
that a role uses; who has least of it for its weight is offered resources first.`,
    syntax: '[options]',
    after: `
Examples:
  kaon roles
  kaon weight set eng/prod 3
  kaon quota set ci --limit cpus=16,mem=64G
`,
  },
  why: {
    description: `Why a framework waits: for each thing that it needs, how many agents could not
give it and for which reason, and the agents. Asks the master that leads, which
knows what was declined and for how long. Of a task: where it is, what it waits
for, and how it ended.`,
    syntax: '[options] ID',
    after: `
ID is the id of a framework, its name, or the beginning of its id; or a task,
by its id, its name, or the beginning of its id. One of kaon run that is not
placed yet is found by its name.

Reasons:
  unreachable, not-connected   the agent is not there
  drained, deactivated         an operator wants nothing of it to be offered
  not-whitelisted              it is not on the --whitelist of the master
  attribute                    it has not the attribute that is wanted
  constraint                   the framework excludes it by its constraints
  not-on                       the framework has excluded it
  per-agent                    as many are offered there as may be on one agent
  too-small                    it would not have enough if it were empty
  too-little                   it has not enough free
  reserved                     what it lacks is reserved for another role
  offered                      it is offered to somebody, who may take it
  declined                     the framework has declined it, for a time
  free                         nothing: others are served before, or it is next

Examples:
  kaon why shop
  kaon why web.k3x9a
  kaon why shop --json | jq '.needs[].counts'

Exit code: 0 answered; 3 no such framework or task; 4 no master answers.
`,
  },
  explain: {
    description: `Whether something could be offered at this moment: for each node the first thing
that stands in the way, as kaon why has it, and how many units would fit in all,
within quota. Nobody is offered anything, and nothing is reserved.`,
    syntax: '[options]',
    after: `
Examples:
  kaon explain --cpus 2 --mem 4G --count 3
  kaon explain --mem 64G --attribute rack=b --role eng/prod
  kaon explain --cpus 8 --json | jq .fits

Exit code: 0 all units would fit; 1 not all of them; 4 no master answers.
`,
  },
  deactivate: {
    description: `Nothing of a node is offered any more, and what is offered of it is taken back.
Its tasks run on and nobody is asked to leave: kaon drain does that. It holds
also over restarts, until kaon reactivate.`,
    syntax: 'AGENT',
    after: `
AGENT is the id of an agent, its host name, or the beginning of either.

Examples:
  kaon deactivate node7
  kaon reactivate node7
`,
  },
  reactivate: {
    description: 'A node that was deactivated is offered again.',
    syntax: 'AGENT',
    after: `
Examples:
  kaon reactivate node7
`,
  },
  drain: {
    description: `Empties a node. Nothing of it is offered any more, and frameworks with work there
are told, so that they may leave (inverse offers). With --deadline what is left
of its tasks then is killed, each with its grace period; without, they go on to
their own ends. It stays drained, also over restarts, until kaon undrain.`,
    syntax: '[options] AGENT',
    after: `
AGENT is the id of an agent, its host name, or the beginning of its id. kaon
agents shows how far it is; --json also what frameworks have answered.

Examples:
  kaon drain node7 --deadline 10m
  kaon drain node7 --in 2h --deadline 15m     a maintenance window
  kaon undrain node7
`,
  },
  undrain: {
    description: 'A node that is drained, or is to be, is offered again.',
    syntax: 'AGENT',
    after: `
Examples:
  kaon undrain node7
`,
  },
  quota: {
    description: `What a role can always have (guarantee), and what it has at most (limit), with
all roles below it.`,
    syntax: '[options] COMMAND',
    after: `
Examples:
  kaon quota set ci --limit cpus=16,mem=64G
  kaon quota remove ci
`,
  },
  'quota set': {
    description: `Replaces guarantee, limit or both of a role. As much as the guarantee is kept free
of the work of others, whether the role wants it now or not; beyond its limit
nothing is offered to it. Of a resource that is not named there is no quota.
What runs is left alone.`,
    syntax: '[options] ROLE',
    after: `
Refused without --force: guarantees that the cluster cannot meet all at once, a
limit below what the role holds already.

Examples:
  kaon quota set prod --guarantee cpus=8,mem=32G
  kaon quota set ci --limit cpus=16 --guarantee none

Exit code: 0 it is in force; 1 refused, or no master has taken it.
`,
  },
  'quota remove': {
    description: 'Takes guarantee and limit of a role away.',
    syntax: 'ROLE',
    after: `
Examples:
  kaon quota remove ci
`,
  },
  weight: {
    description: 'How much a role earns beside its siblings in the tree of roles.',
    syntax: '[options] COMMAND',
    after: `
Examples:
  kaon weight set eng/prod 3
`,
  },
  'weight set': {
    description: `A role of weight 2 gets twice what a role of weight 1 beside it gets, as long as
both want more. It holds from now on, and takes nothing away.`,
    syntax: 'ROLE WEIGHT',
    after: `
Examples:
  kaon weight set eng/prod 3
  kaon weight set batch 0.5
`,
  },
};
