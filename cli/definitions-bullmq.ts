/** The commands about BullMQ queues; see `definitions.ts`. */
import type { Option } from 'commander';
import { daemon } from './daemon.ts';
import type { Definition } from './definition.ts';
import { flag, json, logLevel, repeated } from './definition.ts';

function queueRedisOptions(): Option[] {
  return [
    flag('--queue-redis <url>', 'Redis of the queues (default: that of the cluster)'),
    flag('--prefix <prefix>', "of BullMQ's keys (default: bull)"),
  ];
}

const BULLMQ_STATUS: Definition = {
  usage: 'status',
  summary: 'the queues, and why the first job of each waits',
  options: [...queueRedisOptions(), json()],
  action: async (raw, connection) => {
    const { parseBullmqStatusOptions } = await import('./bullmq-options.ts');
    const { bullmqStatus } = await import('./commands/bullmq-status.ts');
    return bullmqStatus(parseBullmqStatusOptions(raw, connection));
  },
};

const BULLMQ_WHY: Definition = {
  usage: 'why <queue> <jobid>',
  summary: 'why a job is as it is',
  options: queueRedisOptions(),
  action: async (raw, connection, [queue = '', jobId = '']) => {
    const { parseBullmqStatusOptions } = await import('./bullmq-options.ts');
    const { bullmqWhy } = await import('./commands/bullmq-status.ts');
    return bullmqWhy(parseBullmqStatusOptions(raw, connection), queue, jobId);
  },
};

const BULLMQ_SCHEMA: Definition = {
  usage: 'schema',
  summary: 'what a job may say, as JSON Schema',
  options: [],
  action: async () => {
    const { jobSchemas } = await import('../schedulers/bullmq/job-spec.ts');
    const { printJson } = await import('./print.ts');
    printJson(jobSchemas());
    return 0;
  },
};

const BULLMQ_CANCEL: Definition = {
  usage: 'cancel <queue> <jobid>',
  summary: 'end a job, whatever it is doing',
  options: [flag('--reason <words>', 'for its failedReason'), ...queueRedisOptions()],
  action: async (raw, connection, [queue = '', jobId = '']) => {
    const { parseBullmqCancelOptions } = await import('./bullmq-options.ts');
    const options = parseBullmqCancelOptions(raw, connection, queue, jobId);
    const { bullmqCancel } = await import('./commands/bullmq-cancel.ts');
    return bullmqCancel(options);
  },
};

/** `kaon bullmq`, and what is under it. */
export const BULLMQ: Definition = daemon({
  usage: 'bullmq',
  summary: 'a scheduler for BullMQ queues; bullmq status, why and cancel are about their jobs',
  options: [
    repeated('--queue <name,...>', 'queues to work on; may be repeated'),
    flag('--cpus <cores>', 'of a job that says nothing else (default: 1)'),
    flag('--mem <size>', 'of a job that says nothing else (default: 256M)'),
    repeated('--resource <name=amount>', 'of such a job: gpus=1, disk=10G; may be repeated'),
    flag('--priority <number>', 'the same, where the master preempts: -1000 to 1000 (default: 0)'),
    flag('--timeout <duration>', 'longest time of a job (default: none)'),
    flag('--kill-grace <duration>', 'from SIGTERM to SIGKILL (default: 5s)'),
    repeated('--attribute <key=value>', 'only agents that have it; may be repeated'),
    flag('--user <name>', "user of the jobs (default: the agent's)"),
    repeated('--allow-user <name>', 'a job may name no other user; may be repeated'),
    flag(
      '--executor <name>',
      'commands share a warm executor of that name (default: each its own unit)',
    ),
    flag('--processor <file>', 'a module that processes the jobs, sent to the nodes'),
    flag('--processor-on-nodes <path>', 'the same as a file that is on the nodes'),
    flag('--warm <count>', 'idle processes that are kept for a processor (default: 2)'),
    flag('--concurrency <count>', 'active jobs of a queue at most (default: 1000)'),
    flag('--group-limit <count>', 'active jobs of one group at most (default: any)'),
    flag('--rate <max/duration>', 'jobs that start in a time at most: 100/1m (default: any)'),
    flag('--quota <list>', 'what the jobs of a queue may hold together, cpus=4,mem=8G'),
    flag('--role <role>', 'role of the framework', '*'),
    flag(
      '--name <name>',
      'of this scheduler; of two with one name one stands by (default: bullmq)',
    ),
    ...queueRedisOptions(),
    flag('--config <file>', 'all of this, and more for each queue, as TOML or JSON'),
    flag('--drain', 'on a stop, wait for the jobs that run'),
    logLevel(),
  ],
  commands: [BULLMQ_STATUS, BULLMQ_WHY, BULLMQ_CANCEL, BULLMQ_SCHEMA],
  structured: ['queues', 'lock-duration', 'placement-timeout', 'patience', 'lost-max'],
  loadParser: async () => {
    const { parseBullmqOptions } = await import('./bullmq-options.ts');
    return parseBullmqOptions;
  },
  start: async (settings) => {
    const { bullmq } = await import('./commands/bullmq.ts');
    return bullmq(settings);
  },
});
