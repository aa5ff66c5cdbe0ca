/** Help texts of the commands about BullMQ queues; see `help.ts`. */
import type { CommandHelp } from './command-help.ts';

/** By the names of the commands. */
export const BULLMQ_HELP: Readonly<Record<string, CommandHelp>> = {
  bullmq: {
    description: `A scheduler for BullMQ queues: producers go on calling queue.add(), and each
job becomes a task with its own limits on some node of the cluster. The backlog
is held in BullMQ; a job is taken when a node has room for it. Its data says
what it needs: {"command": ["convert", "a.png"], "cpus": 2, "mem": "1G"}. With
--processor jobs have any data, and a function of yours is called with them in
warm processes on the nodes, as by a sandboxed processor of BullMQ.`,
    syntax: '[options] --queue NAME[,NAME...]',
    after: `
Runs until SIGTERM or Ctrl-C. Jobs that run then go on, and the next kaon bullmq
of the same --name takes them over; with --drain it waits for them. Two with the
same --name may run, on different nodes: one works, the other stands by.

--config FILE has what differs from queue to queue, by the names of the flags:
  { "name": "bullmq", "defaults": { "mem": "512M" },
    "queues": ["mail", { "name": "video", "cpus": 4, "weight": 3,
               "quota": { "cpus": 16 }, "groupLimit": 2, "role": "media" }] }

Examples:
  kaon bullmq --queue mail,reports --cpus 0.5 --mem 256M
  kaon bullmq --queue images --processor ./thumbnail.ts --mem 512M --timeout 1m
  kaon bullmq --queue ci --executor ci --rate 100/1m --quota cpus=16
  kaon bullmq --queue mail --queue-redis redis://10.0.0.7:6379
  kaon bullmq cancel mail 4711

Exit code: 0 after SIGTERM; 2 wrong usage; 4 Redis cannot be reached; 78 the
configuration or Redis is not fit for it; 1 it could not go on.
`,
  },
  'bullmq status': {
    description: `The queues that kaon bullmq works on or has worked on, how many of their jobs
are where, and why the first of them waits: the queue is paused, a limit is
reached, or the cluster has no room for it, and where it is short of what.`,
    syntax: '[options]',
    after: '',
  },
  'bullmq why': {
    description: 'Says of one job why it waits, where it runs, or why it has failed.',
    syntax: '[options] QUEUE JOBID',
    after: `
Exit code: 3 if there is no such job.
`,
  },
  'bullmq schema': {
    description: `What a job may say, as JSON Schema, for editors and for checks of producers:
"command" is the data of a job that is a command, "processor" the field "kaon"
in the data of one for a processor.`,
    syntax: '',
    after: '',
  },
  'bullmq cancel': {
    description: `Ends a job of a queue, whatever it is doing: one that waits fails at once, one
that runs gets SIGTERM, and SIGKILL after its grace period. It has failed with
the reason "cancelled" then, and is not tried again. Waits for that, 15 s at
most; the wish is kept while no kaon bullmq runs.`,
    syntax: '[options] QUEUE JOBID',
    after: `
Producers can do the same: cancelJob() of kaon/bullmq, or in any language
  XADD bull-kaon:QUEUE:cancel * jobId JOBID reason WORDS

Exit code: 0 it is cancelled; 1 it had ended, or has not yet; 3 no such job.
`,
  },
};
