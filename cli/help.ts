/** Help texts that are longer than a line: what a command does, its examples, its exit codes. No manual is needed. */

import type { CommandHelp } from './command-help.ts';
import { BULLMQ_HELP } from './help-bullmq.ts';
import { CERTS_HELP } from './help-certs.ts';
import { JOIN_HELP } from './help-join.ts';
import { RESERVATIONS_HELP } from './help-reservations.ts';
import { ROLES_HELP } from './help-roles.ts';
import { TOKEN_HELP } from './help-token.ts';
import { CONFIG_HELP } from './help-config.ts';
import { INSTALL_HELP } from './help-install.ts';

/** The end of `kaon --help`. */
export const PROGRAM_HELP = `
A task is named by its id, its name, or the beginning of its id, if that is
unique; FRAMEWORK/TASK says it exactly. Sizes are written 128M or 1.5G (powers
of 1024), durations 30s, 5m or 1h30m, CPU 0.5, 2 or 250m (thousandths).

Examples:
  kaon dev                                    a cluster on this machine
  kaon run -- echo hello                      run something, see its output
  kaon run --cpus 2 --mem 1G -- make -j2      with more room, and not beyond it
  kaon tasks --all                            what runs and what has run
  kaon task web.k3x9a                         why did it end?
  kaon logs -f web.k3x9a                      what does it say?
  kaon --redis redis://10.0.0.5:6379 status   another cluster

Environment:
  KAON_REDIS    redis://[USER:PASSWORD@]HOST:PORT, rediss://... or unix:///PATH
  KAON_REDIS_CA, KAON_REDIS_CERT, KAON_REDIS_KEY   certificates for rediss://
  KAON_CLUSTER  name of the cluster
  NO_COLOR      no colours, also on a terminal

Exit codes:
  0  done    1  failed    2  wrong usage    3  no such task
  4  Redis or the agent cannot be reached
  77 the token is missing, not good, or not good for this
  78 starting again cannot help: a setting or another process is in the way
  kaon run has the exit code of what it ran: see kaon run --help
`;

const ID_HELP = 'ID is the id of a task, its name, or the beginning of its id; or FRAMEWORK/TASK.';

const HELP: Readonly<Record<string, CommandHelp>> = {
  run: {
    description: `Runs a command on a node that has room for it. Its output comes here, byte for
byte, and its exit code is that of kaon run. Ctrl-C ends it: SIGTERM first, the
second time SIGKILL. --cpus and --mem are both what is reserved for it and what
it cannot exceed: the kernel holds it back at its CPU limit, and ends it at its
memory limit.`,
    syntax: '[options] -- COMMAND...',
    after: `
COMMAND and its arguments are used as they are, without a shell, and looked up
in PATH on the node; for pipes and variables write sh -c '...'. Options of kaon
run stand before COMMAND.

Examples:
  kaon run -- hostname
  kaon run --cpus 2 --mem 1G --timeout 1h -- ./build.sh
  kaon run --env GREETING=hello -- sh -c 'echo $GREETING from $(hostname)'
  kaon run --instances 3 --name probe -- ping -c 3 10.0.0.1
  kaon run --instances 3 --distinct-hosts --placement spread -- ./replica
  kaon run --attribute rack=a1 --user www-data --workdir /srv/www -- ./deploy
  kaon run --detach --name web -- python3 -m http.server
  kaon run --when-unreachable stop:5m -- ./only-one-may-run

When the node is cut off, nobody can tell whether the task runs. It is
TASK_UNREACHABLE, and goes on if the node lives (keep); or systemd stops it on
the node after DURATION without contact, 15s at least, and after that time it
has ended for everybody (stop:DURATION). --exclusive: the master refuses the
task while another exclusive one of its name and framework may be running.

Exit code:
  that of COMMAND (the highest, of several instances); 128+N if signal N ended
  it; 124 over --timeout; 125 Kaon could not run it; 126 could not be started;
  127 COMMAND not found; 130 after Ctrl-C. Before anything was run: 2 wrong
  usage, 4 Redis cannot be reached.
`,
  },
  ...BULLMQ_HELP,
  ...CERTS_HELP,
  ...JOIN_HELP,
  ...TOKEN_HELP,
  ...RESERVATIONS_HELP,
  ...ROLES_HELP,
  ...CONFIG_HELP,
  ...INSTALL_HELP,
  submit: {
    description: `Hosts a framework: its scheduler runs on a node from now on, and on another one
when that node is lost. PROGRAM is a .ts, .mts, .js or .mjs file, which is sent
with all that it imports, or a command that is on the nodes. Waits until it is
there, says where, and ends.`,
    syntax: '[options] PROGRAM [-- ARGUMENTS...]',
    after: `
The program finds KAON_REDIS, KAON_CLUSTER and KAON_FRAMEWORK_ID, which the
driver of kaon/framework uses by itself: each time that it is started again it
is the same framework, and its tasks have gone on. Exit code 0 means that it is
done. With another one it is started again, after 1 s, 2 s, 4 s and so on up to
a minute, --max-restarts times in a row.

--standby yes reserves --cpus and --mem once more, on another node. When the
first one is lost, the program is started there. With one node the standby
waits for a second. With --standby no nothing takes over: what is lost with its
node is submitted again, with its --framework-id.

--when-unreachable stop:DURATION stops the program where the cluster has not
answered for so long, and nobody takes over before; keep lets it go on, cut off.

Examples:
  kaon submit ./framework.ts
  kaon submit -c 0.5 -m 256M -n crawler ./crawler.ts -- --depth 3
  kaon submit --framework-id crawler.k3x9a2 ./crawler.ts    take over that one
  kaon submit -- node /srv/app/main.mjs                     is on the nodes
  kaon submit --uri http://files/app.mjs -- node app.mjs    too large to send

Exit code: 0 it is hosted; 1 it could not be started, or is hosted already;
2 wrong usage; 4 Redis cannot be reached; 130 after Ctrl-C.
`,
  },
  'submit-runner': {
    description: `Started by kaon submit in each of its tasks: hosts the program, or stands by.`,
    syntax: '',
    after: '',
  },
  kill: {
    description: `Ends a task: SIGTERM to all its processes, and SIGKILL after the grace period.
Waits until it has ended and says how. Its framework is told TASK_KILLED.`,
    syntax: '[options] ID',
    after: `
${ID_HELP}

Examples:
  kaon kill web.k3x9a
  kaon kill --grace 1m web     it may take a minute to finish
  kaon kill --grace 0s web     at once

Exit code: 0 it has ended, or had before; 1 it has not ended in time;
3 no such task.
`,
  },
  logs: {
    description: `The output of a task, byte for byte: its standard output to standard output, its
standard error to standard error. It comes from the node where the task runs or
ran; if that is gone, the last lines that came with the end of the task.`,
    syntax: '[options] ID',
    after: `
${ID_HELP}

Examples:
  kaon logs web
  kaon logs -f --tail 4K web         the last 4 KiB, and what comes
  kaon logs --stderr web | grep -i error
`,
  },
  tasks: {
    description: `Tasks that have not ended, newest first. With --all also those that have, with
how they ended. CPUS and MEM are the limits of a task.`,
    syntax: '[options]',
    after: `
Examples:
  kaon tasks
  kaon tasks --all --limit 200
  kaon tasks --json | jq -r '.[] | select(.state == "TASK_RUNNING") | .taskId'
`,
  },
  task: {
    description: `Everything that is known of one task: where it is, what it may use, what it did
use, how it ended and why, its events, its last lines.`,
    syntax: '[options] ID',
    after: `
${ID_HELP}

Examples:
  kaon task web.k3x9a
  kaon task web.k3x9a --json | jq .status.certificate
  kaon task resize web.k3x9a --mem 512M
`,
  },
  'task resize': {
    description: `Other limits for a task that runs: what is reserved for it, and what it cannot
exceed. The master grants what is free on the node, and takes offers back for
it; the node then changes the limits while the task goes on. Waits until that is
done, and says what the task has.`,
    syntax: '[options] ID',
    after: `
${ID_HELP}

A smaller memory limit than what is in use is not forced on a task: then the
node says so, and the memory limit stays as it is.

Examples:
  kaon task resize web.k3x9a --cpus 2 --mem 1G
  kaon task resize web --mem 512M --framework shop

Exit code: 0 it has what was asked for; 1 refused, not possible, or not done in
time; 2 wrong usage, or several tasks are meant; 3 no such task.
`,
  },
  status: {
    description: `One look at the cluster: Redis, the leading master, how many agents, frameworks,
tasks and offers there are, and how much of CPU and memory tasks hold. Masters
that stand by write nothing, so they are not counted.`,
    syntax: '[options]',
    after: `
Exit code: 0 a master leads; 1 none does; 4 Redis cannot be reached.
`,
  },
  agents: {
    description: `The nodes. USED is what tasks hold, OFFERED what frameworks may take at this
moment, TOTAL what the agent gives to tasks, RESERVED what of that is kept for
which role (kaon reservations has it one by one). An agent that is not heard of
is unreachable: its tasks may be running, and it gets no new ones. One that is
gone has left, or an operator said so; it is forgotten after 30 days.`,
    syntax: '[options]',
    after: `
Examples:
  kaon agents --wide
  kaon agents --json | jq '.[] | select(.state != "active") | .info.hostname'
`,
  },
  frameworks: {
    description: `Who schedules. CPUS and MEM are what its tasks hold; SHARE is its dominant
share, the larger of its parts of all CPU and of all memory: who has the least
is offered resources first. WANTS is what it would be offered.`,
    syntax: '[options]',
    after: '',
  },
  executors: {
    description: `Processes of frameworks that run their tasks on a node, all in one container.
OWN is what the executor holds for itself, tasks or not; TOTAL is that and what
its tasks hold: the limits of its container.`,
    syntax: '[options]',
    after: `
Examples:
  kaon executors
  kaon executors --framework crawler --json | jq '.[].agentId'
`,
  },
  offers: {
    description: `Offers that frameworks have not answered yet. Resources in an offer are nobody
else's until it is used, declined or expired. ROLE is what it counts for,
RESERVATION which one it is of; "-" is of what is not reserved.`,
    syntax: '[options]',
    after: '',
  },
  events: {
    description: `What the masters have decided and learnt, oldest first, each with its reason.
The log is kept in Redis, the last fifty thousand commits of it. Each event has
an id: the commit's, and the number of the event in it. --from an id that is
too old, so that something after it is not kept, is an error.`,
    syntax: '[options]',
    after: `
Examples:
  kaon events -f
  kaon events --since 1h --task web.k3x9a
  kaon events -f --json --from 1795200792000-0.1     go on where it was left
  kaon events -f --json | jq 'select(.type == "agent.unreachable")'
`,
  },
  replay: {
    description: `The cluster as it was: agents, frameworks, offers and tasks, put together from
a snapshot that a master has stored and the events after it. Without --at: as
it is, and whether the event log and the registry say the same.`,
    syntax: '[options]',
    after: `
A moment is a time ago (10m), a time (2026-11-20T18:53:12 is local, with a Z it
is UTC; or milliseconds since 1970), or the id of an event as kaon events shows
it: then that event is the last that has happened.

Examples:
  kaon replay                                is the log complete?
  kaon replay --at 10m
  kaon replay --at 1795200792000-0.1 --json | jq '.tasks[].key'

Exit code: 0 done, and the log agrees with the registry; 1 it does not;
2 not a moment, or one that is still to come; 3 nothing is kept of that moment.
`,
  },
  gone: {
    description: `Says that a node will not come back: it has burnt down, or was given away.
Its tasks have ended from then on, as TASK_GONE_BY_OPERATOR, and their
frameworks may replace them. If the node comes back all the same, they are
ended there. Waits until it is done, and says what became of how many tasks.`,
    syntax: '[options] AGENT',
    after: `
AGENT is the id of an agent, its host name, or the beginning of either.

An agent that is active is refused: its tasks run, and would be called ended.

Examples:
  kaon gone node7
  kaon gone --force node7      it looks alive for a while yet, but is not

Exit code: 0 it is gone, or was already; 1 refused, or no master has taken it;
2 several agents are meant; 3 no such agent.
`,
  },
  dev: {
    description: `A whole cluster in the foreground: a Redis of its own, a master, and an agent of
this machine with real limits. Prints the KAON_REDIS to use. Ctrl-C ends all of
it, tasks too. Needs root, for systemd.`,
    syntax: '[options]',
    after: `
--redis uses a Redis that is there instead of starting one.

Examples:
  kaon dev
  kaon dev --resources cpus=2,mem=2G --attribute rack=a1
`,
  },
  master: {
    description: `A master. Of several, one leads and the others stand by; any number may run. All
state is in Redis: a master can be killed at any time. Logs to standard error.`,
    syntax: '[options]',
    after: `
Examples:
  kaon master --redis redis://10.0.0.5:6379
  kaon master --lease 5s --agent-timeout 3m
  kaon master --whitelist 'n1,rack7-*' --minimum-offer cpus=0.1,mem=64M
  kaon master --listen 7420                    and an HTTP API on this machine
  kaon master --listen 10.0.0.5:7420 --tls-cert api.crt --tls-key api.key

The API is for scripts and monitoring: GET /healthz, /v1/status, /v1/tasks, ...
docs/api.md has all of it. It leaves the loopback only with TLS, and only where
a token or a client certificate is asked for.
`,
  },
  'step-down': {
    description: `Gives up the lease of a master if it leads, and says whether it did. Another
master then leads at once, without waiting for the end of the lease; offers and
tasks are as before. kaon-master.service runs it after every end of the master.`,
    syntax: '[options] [MASTERID]',
    after: `
Without MASTERID: the master of the systemd unit that runs this
(INVOCATION_ID). kaon status names the leader.

Examples:
  kaon step-down --current            another master takes over, for maintenance
  kaon step-down node1.k3x9ab

Exit code: 0 it does not lead any more, or never did; 4 Redis cannot be reached.
`,
  },
  agent: {
    description: `The agent of this node: finds out what the node has, offers it, and runs tasks
as systemd units with limits. Tasks outlive it: it may be restarted or upgraded at
any time. Needs root (or rights on the bus of systemd). Logs to standard error.`,
    syntax: '[options]',
    after: `
Examples:
  kaon agent --redis redis://10.0.0.5:6379
  kaon agent --reserve cpus=0.5,mem=1G --attribute rack=a1 --attribute disk=ssd
`,
  },
};

/** @param name of a command */
export function commandHelp(name: string): CommandHelp {
  return HELP[name] ?? { description: '', syntax: '[options]', after: '' };
}
