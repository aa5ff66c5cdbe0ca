/** Help texts of the commands about users of Redis; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

/** By the names of the commands. */
export const JOIN_HELP: Readonly<Record<string, CommandHelp>> = {
  'join-token': {
    description: `What a node or a program joins the cluster with: a user of Redis that can do
what its role has to and nothing else, and in a secured cluster a token. Needs
Redis 7, and an address of Redis whose user may use ACL.`,
    syntax: 'create | revoke NAME | ls',
    after: `
Examples:
  kaon join-token create --role agent --name node1
  kaon join-token ls
  kaon join-token revoke node1
`,
  },
  'join-token create': {
    description: `Makes a user of Redis and prints one line: for an agent the command to paste on
the node, for other roles the variables to set. The line is secret, and is not
shown again: Redis keeps only a digest of the password. A name that exists is
refused; --force gives it a new password and cuts who has the old one.`,
    syntax: '--role ROLE [--name NAME] [options]',
    after: `
Roles:
  agent      its own streams, entries for the master, answers to readers
  framework  the same for the ids NAME and NAME.*, and what nodes there are
  bullmq     a framework, and the keys of BullMQ (--prefix)
  viewer     reads: kaon status, tasks, agents, events
  operator   reads, and kaon kill, logs, run and submit
  master     all keys of the cluster

With the cluster's key (--cluster-key, or the credential cluster-key) the line
has a token too. Without an ACL file Redis forgets its users with a restart:
then the line for its configuration is printed beside.

Examples:
  kaon join-token create --role agent --name node1
  kaon join-token create --role agent --node-redis rediss://10.0.0.5:6379
  kaon join-token create --role framework --name shop
  eval "$(kaon join-token create --role viewer --name ann)"

Exit code: 0 it is made; 1 the name exists, or Redis does not allow it;
2 wrong usage; 4 Redis cannot be reached.
`,
  },
  'join-token revoke': {
    description: `Takes a user of Redis away, and in a secured cluster its token. Redis cuts its
connections. Tasks of an agent run on, but nobody hears of them.`,
    syntax: '[options] NAME',
    after: `
Exit code: 0 done; 2 several have that name; 3 no such user.
`,
  },
  'join-token ls': {
    description: `Users of this cluster in Redis, and how many connections each has now.`,
    syntax: '[options]',
    after: '',
  },
  acl: {
    description: `The rules of Redis for each role, to put there by hand: for a Redis in which
nobody may use ACL from afar, and for replicas, which have users of their own.
Asks no Redis.`,
    syntax: 'print | file [--role ROLE]',
    after: `
Examples:
  kaon acl file --role agent --name node1 >> /etc/redis/users.acl
  kaon acl print --role master | redis-cli
`,
  },
  'acl print': {
    description: `Rules as commands for redis-cli. Without --role one of each. New passwords go
to standard error, and are not shown again; in the rules there is a digest.`,
    syntax: '[--role ROLE [--name NAME]] [options]',
    after: '',
  },
  'acl file': {
    description: `Rules as lines of an ACL file (aclfile in redis.conf), or of redis.conf itself.
Without --role one of each. New passwords go to standard error, and are not
shown again; in the rules there is a digest.`,
    syntax: '[--role ROLE [--name NAME]] [options]',
    after: '',
  },
};
