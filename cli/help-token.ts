/** Help texts of the commands about tokens; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

const KEY_HELP = `These commands need Redis and the cluster's key, which root has on a master's
host: --cluster-key-file, the credential cluster-key, or KAON_CLUSTER_KEY_FILE.`;

/** By the names of the commands. */
export const TOKEN_HELP: Readonly<Record<string, CommandHelp>> = {
  token: {
    description: `Tokens of a secured cluster: one whose masters have a key. Whoever speaks to a
master there needs one. A client finds its token in the file that
KAON_TOKEN_FILE names, in the credential token of its unit, or in KAON_TOKEN.`,
    syntax: '[options] COMMAND',
    after: `
${KEY_HELP}

Examples:
  kaon token new-key > cluster-key
  kaon token create ci --kind framework --role ci --user builder > token
  kaon token ls
`,
  },
  'token create': {
    description: `Makes a token and prints it, alone on standard output, once: it is stored
nowhere, and cannot be printed again. Who creates it stands in kaon events.`,
    syntax: '[options] NAME --kind KIND',
    after: `
Kinds:
  viewer     what the HTTP API shows; may say nothing to a master
  operator   kaon kill, gone, task resize
  framework  registers frameworks with --role, and acts for those alone; its
             tasks may name the users of --user, root only if it is listed
  agent      speaks for the agent --agent, and for no other
  admin      all of that

${KEY_HELP}

Examples:
  kaon token create ann --kind operator --expires 90d
  kaon token create ci --kind framework --role ci --user builder
  kaon token create node1 --kind agent --agent node1 > node1.token

Exit code: 0 it is made; 1 the name is taken; 2 wrong usage; 4 Redis cannot be
reached; 78 no cluster key.
`,
  },
  'token ls': {
    description: `Lists the tokens: name, kind, what it is good for, and until when. A record in
Redis that nobody with the cluster's key has written is told, and counts nothing.`,
    syntax: '[options]',
    after: `
${KEY_HELP}
`,
  },
  'token revoke': {
    description: `Ends a token. Whoever has it is refused within a second, and told so. Tasks of its
frameworks and agents run on: kill them, or create the name again and take over.`,
    syntax: '[options] NAME',
    after: `
${KEY_HELP}

Exit code: 0 it is revoked, now or before; 1 there is none of that name.
`,
  },
  'token rotate': {
    description: `Prints a new token of a name that has one; the old one is refused within a
second. It is good for as long as the old one was when it was made.`,
    syntax: '[options] NAME',
    after: `
${KEY_HELP}
`,
  },
  'token new-key': {
    description: `Prints 32 random bytes as text: the key of a new secured cluster. All its masters
need the same. Whoever has it can make every token: keep it readable by root.`,
    syntax: '',
    after: `
Examples:
  kaon token new-key > /etc/kaon/credentials/master/cluster-key
`,
  },
  whoami: {
    description: `Says whose token this process has, and what Redis says of it: kind, roles, users,
and whether it is still good. Only a master can say whether the token is genuine.`,
    syntax: '[options]',
    after: `
Examples:
  KAON_TOKEN_FILE=./token kaon whoami

Exit code: 0 it is good; 77 it is revoked, replaced or expired, or unknown here;
78 there is none, or it was not copied whole.
`,
  },
};
