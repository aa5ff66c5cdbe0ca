/** The commands about roles; see `definitions.ts`. */
import type { Definition } from './definition.ts';
import { flag, json, repeated } from './definition.ts';

/** `kaon roles`. */
export const ROLES: Definition = {
  usage: 'roles',
  summary: 'the tree of roles: what each holds, its weight and its quota',
  options: [json()],
  action: async (raw, connection) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { roles } = await import('./commands/roles.ts');
    return roles(parseListOptions(raw, connection));
  },
};

/** `kaon why`. */
export const WHY: Definition = {
  usage: 'why <id>',
  summary: 'why a framework waits, agent by agent; of a task, why it is as it is',
  options: [flag('-w, --wide', 'every agent, and not the first ones of each reason'), json()],
  action: async (raw, connection, [id = '']) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { why } = await import('./commands/why.ts');
    return why(parseListOptions(raw, connection), id);
  },
};

/** `kaon explain`. */
export const EXPLAIN: Definition = {
  usage: 'explain',
  summary: 'whether something would fit, agent by agent, before it is asked for',
  options: [
    flag('--cpus <cores>', 'of one unit: 0.5, 2, 250m', '0.5'),
    flag('--mem <size>', 'of one unit: 128M, 1.5G', '128M'),
    repeated('--resource <name=amount>', 'gpus=1, ports=2, disk=10G; may be repeated'),
    flag('--count <count>', 'so many units', '1'),
    flag('--role <role>', 'role that it would count for: eng/prod', '*'),
    repeated('--attribute <key=value>', 'only on nodes that have this attribute; may be repeated'),
    flag('-w, --wide', 'every agent, and not the first ones of each reason'),
    json(),
  ],
  action: async (raw, connection) => {
    const { parseExplain } = await import('./role-options.ts');
    const options = parseExplain(raw, connection);
    const { explain } = await import('./commands/explain.ts');
    return explain(options);
  },
};

const QUOTA_SET: Definition = {
  usage: 'set <role>',
  summary: 'what a role can always have, and what it has at most',
  options: [
    flag('--guarantee <list>', 'as much is kept free for it: cpus=4,mem=8G, or none'),
    flag('--limit <list>', 'more than that it is not offered: cpus=16,mem=64G, or none'),
    flag('--force', 'also what the cluster cannot meet, or is exceeded already'),
  ],
  action: async (raw, connection, [role = '']) => {
    const { parseQuota } = await import('./role-options.ts');
    const wish = parseQuota(raw, role);
    const { updateRole } = await import('./commands/update-role.ts');
    return updateRole(connection, wish);
  },
};

const QUOTA_REMOVE: Definition = {
  usage: 'remove <role>',
  summary: 'take guarantee and limit of a role away',
  options: [],
  action: async (_raw, connection, [role = '']) => {
    const { parseQuotaRemoval } = await import('./role-options.ts');
    const wish = parseQuotaRemoval(role);
    const { updateRole } = await import('./commands/update-role.ts');
    return updateRole(connection, wish);
  },
};

/** `kaon quota`. */
export const QUOTA: Definition = {
  usage: 'quota',
  summary: 'guarantee and limit of a role: set, remove',
  options: [],
  commands: [QUOTA_SET, QUOTA_REMOVE],
  action: async () => {
    const { usageError } = await import('./failure.ts');
    throw usageError('kaon quota needs to know what to do: set ROLE or remove ROLE');
  },
};

const WEIGHT_SET: Definition = {
  usage: 'set <role> <weight>',
  summary: 'a role of weight 2 gets twice what one of weight 1 gets',
  options: [],
  action: async (_raw, connection, [role = '', weight = '']) => {
    const { parseWeight } = await import('./role-options.ts');
    const wish = parseWeight(role, weight);
    const { updateRole } = await import('./commands/update-role.ts');
    return updateRole(connection, wish);
  },
};

/** `kaon weight`. */
export const WEIGHT: Definition = {
  usage: 'weight',
  summary: 'weight of a role: set',
  options: [],
  commands: [WEIGHT_SET],
  action: async () => {
    const { usageError } = await import('./failure.ts');
    throw usageError('kaon weight needs to know what to do: set ROLE WEIGHT');
  },
};
