/**
 * The commands: names, flags and their summaries, and which module runs each. A module is loaded when its command is
 * run, and so is what turns flags into numbers; nothing here may import either of them.
 */
import type { Option } from 'commander';
import { daemon, userFile } from './daemon.ts';
import type { Definition } from './definition.ts';
import { configFile, flag, json, logLevel, repeated } from './definition.ts';
import { BULLMQ } from './definitions-bullmq.ts';
import { CONFIG } from './definitions-config.ts';
import { CERTS } from './definitions-certs.ts';
import { ACL, JOIN_TOKEN } from './definitions-join.ts';
import { MASTER, STEP_DOWN } from './definitions-master.ts';
import { CHECK_REDIS, COMPLETION } from './definitions-install.ts';
import { DEACTIVATE, DRAIN, REACTIVATE, UNDRAIN } from './definitions-agents.ts';
import { RESERVATIONS, RESERVE, reserveFor, UNRESERVE } from './definitions-reservations.ts';
import { EXPLAIN, QUOTA, ROLES, WEIGHT, WHY } from './definitions-roles.ts';
import { TOKEN, WHOAMI } from './definitions-token.ts';
import { agentSandboxOptions, runSandboxOptions } from './definitions-sandbox.ts';

const RUN: Definition = {
  usage: 'run <command...>',
  summary: 'run a command on some node, as if it ran here',
  passesThrough: true,
  options: [
    flag('--cpus <cores>', 'CPU limit and reservation: 0.5, 2, 250m', '0.5'),
    flag('--mem <size>', 'memory limit and reservation: 128M, 1.5G', '128M'),
    repeated('--resource <name=amount>', 'gpus=1, ports=2, disk=10G; may be repeated'),
    flag('--name <name>', 'name of the task (default: that of the command)'),
    flag('--role <role>', 'role that it counts for: eng/prod', '*'),
    flag('--priority <number>', 'where the master preempts: -1000 to 1000 (default: 0)'),
    repeated('--env <key=value>', 'environment variable; may be repeated'),
    flag('--user <user>', 'user that it runs as on the node (default: that of the node)'),
    ...runSandboxOptions(),
    flag(
      '--workdir <directory>',
      'working directory on the node (default: an empty one of its own)',
    ),
    flag('--timeout <duration>', 'end it after this time: 30s, 5m, 1h30m (default: never)'),
    flag('--kill-grace <duration>', 'time between SIGTERM and SIGKILL (default: 5s)'),
    flag('--instances <count>', 'run it so many times, on whatever nodes have room', '1'),
    flag('--distinct-hosts', 'no two instances on one node'),
    flag('--placement <order>', 'spread: emptiest nodes first; pack: fullest first'),
    flag('--gang', 'all instances at once, or none'),
    repeated('--attribute <key=value>', 'only on nodes that have this attribute; may be repeated'),
    flag(
      '--when-unreachable <what>',
      'if its node is cut off: keep it running, or stop:DURATION',
      'keep',
    ),
    flag('--exclusive', 'not while another task of its name and framework may run'),
    flag('-d, --detach', 'return when it is placed, and print its id'),
  ],
  action: async (raw, connection, args) => {
    const { parseRunOptions } = await import('./parse-options.ts');
    const options = parseRunOptions(raw, connection);
    const { run } = await import('./commands/run.ts');
    return run(options, args);
  },
};

const SUBMIT: Definition = {
  usage: 'submit <program...>',
  summary: 'host a framework in the cluster: its scheduler moves in',
  passesThrough: true,
  options: [
    flag('-c, --cpus <cores>', 'CPU limit and reservation: 0.5, 2, 250m', '1'),
    flag('-m, --mem <size>', 'memory limit and reservation: 128M, 1.5G', '512M'),
    flag('-n, --name <name>', 'name of its task (default: that of the program)'),
    flag('--framework-id <id>', 'of a framework that exists (default: a new one)'),
    flag('--standby <yes|no>', 'another node stands by, with as much reserved', 'yes'),
    flag('--max-restarts <count>', 'so often in a row it is started again (default: 10)'),
    repeated('--uri <uri>', 'file or archive to put into the sandbox; may be repeated'),
    repeated('--env <key=value>', 'environment variable; may be repeated'),
    repeated('--attribute <key=value>', 'only on nodes that have this attribute; may be repeated'),
    flag('--user <user>', 'user that it runs as on the node (default: that of the node)'),
    flag('--kill-grace <duration>', 'time between SIGTERM and SIGKILL (default: 5s)'),
    flag('--when-unreachable <what>', 'if its node is cut off: keep it, or stop:DURATION', 'keep'),
    flag('--node-redis <url>', 'address of Redis as the nodes see it (default: --redis)'),
    flag('-f, --follow', 'stay, and show what it says'),
  ],
  action: async (raw, connection, args) => {
    const { parseSubmitOptions } = await import('./commands/submit-options.ts');
    const options = parseSubmitOptions(raw, connection, args);
    const { submit } = await import('./commands/submit.ts');
    return submit(options, args);
  },
};

const SUBMIT_RUNNER: Definition = {
  usage: 'submit-runner',
  summary: 'what the tasks of kaon submit run',
  isHidden: true,
  options: [],
  action: async () => {
    const { submitRunner } = await import('./commands/submit-runner.ts');
    return submitRunner();
  },
};

const KILL: Definition = {
  usage: 'kill <id>',
  summary: 'end a task, and say how it ended',
  options: [
    flag('--grace <duration>', "time between SIGTERM and SIGKILL (default: the task's own)"),
  ],
  action: async (raw, connection, [id = '']) => {
    const { parseKillOptions } = await import('./parse-options.ts');
    const { kill } = await import('./commands/kill.ts');
    return kill(parseKillOptions(raw, connection), id);
  },
};

const LOGS: Definition = {
  usage: 'logs <id>',
  summary: 'output of a task, from wherever it runs or ran',
  options: [
    flag('-f, --follow', 'go on until the task has ended'),
    flag('--stdout', 'standard output only'),
    flag('--stderr', 'standard error only'),
    flag('--raw', 'to a terminal, too, every byte as it is: also what it would obey'),
    flag('--tail <size>', 'begin so much before the end: 64K, 1M (default: the beginning)'),
  ],
  action: async (raw, connection, [id = '']) => {
    const { parseLogsOptions } = await import('./parse-options.ts');
    const { logs } = await import('./commands/logs.ts');
    return logs(parseLogsOptions(raw, connection), id);
  },
};

const TASKS: Definition = {
  usage: 'tasks',
  summary: 'what runs; with --all also what has ended',
  options: [
    flag('-a, --all', 'also tasks that have ended, newest first'),
    flag('--limit <count>', 'so many ended tasks', '50'),
    json(),
  ],
  action: async (raw, connection) => {
    const { parseTasksOptions } = await import('./parse-options.ts');
    const { tasks } = await import('./commands/tasks.ts');
    return tasks(parseTasksOptions(raw, connection));
  },
};

const TASK_RESIZE: Definition = {
  usage: 'resize <id>',
  summary: 'other limits for a task that runs',
  options: [
    flag('--cpus <cores>', 'CPU limit and reservation: 0.5, 2, 250m (default: as it is)'),
    flag('--mem <size>', 'memory limit and reservation: 128M, 1.5G (default: as it is)'),
    flag('--framework <id>', 'of this framework: its name, or the beginning of its id'),
  ],
  action: async (raw, connection, [id = '']) => {
    const { parseResizeOptions } = await import('./parse-options.ts');
    const options = parseResizeOptions(raw, connection, id);
    const { resize } = await import('./commands/resize.ts');
    return resize(options, id);
  },
};

const TASK: Definition = {
  usage: 'task <id>',
  summary: 'everything about one task; task resize changes its limits',
  options: [json()],
  commands: [TASK_RESIZE],
  action: async (raw, connection, [id = '']) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { task } = await import('./commands/task.ts');
    return task(parseListOptions(raw, connection), id);
  },
};

const EVENTS: Definition = {
  usage: 'events',
  summary: 'what has happened, and why; -f follows',
  options: [
    flag('-f, --follow', 'go on with what happens'),
    flag('--since <when>', 'begin so long ago: 10m, 2h'),
    flag('--from <id>', 'go on after this event: no gap, nothing twice'),
    flag('--limit <count>', 'without --since and --from: the newest so many', '50'),
    flag('--task <id>', 'only what is about this task'),
    flag('--json', 'one JSON object a line'),
  ],
  action: async (raw, connection) => {
    const { parseEventsOptions } = await import('./parse-options.ts');
    const { events } = await import('./commands/events.ts');
    return events(parseEventsOptions(raw, connection));
  },
};

const STATUS: Definition = {
  usage: 'status',
  summary: 'is there a leader, how many of what, how full',
  options: [json()],
  action: async (raw, connection) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { status } = await import('./commands/status.ts');
    return status(parseListOptions(raw, connection));
  },
};

const AGENTS: Definition = {
  usage: 'agents',
  summary: 'nodes: what each has, and how much of it is used',
  options: [
    flag('-w, --wide', 'with their attributes, and nothing cut to fit the terminal'),
    json(),
  ],
  action: async (raw, connection) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { agents } = await import('./commands/agents.ts');
    return agents(parseListOptions(raw, connection));
  },
};

const FRAMEWORKS: Definition = {
  usage: 'frameworks',
  summary: 'schedulers: what each holds and wants',
  options: [json()],
  action: async (raw, connection) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { frameworks } = await import('./commands/frameworks.ts');
    return frameworks(parseListOptions(raw, connection));
  },
};

const EXECUTORS: Definition = {
  usage: 'executors',
  summary: 'executors on the nodes, and what each holds with its tasks',
  options: [
    flag('--framework <id>', 'only of this framework: its name, or the beginning of its id'),
    flag('-w, --wide', 'nothing cut to fit the terminal'),
    json(),
  ],
  action: async (raw, connection) => {
    const { parseExecutorsOptions } = await import('./parse-options.ts');
    const { executors } = await import('./commands/executors.ts');
    return executors(parseExecutorsOptions(raw, connection));
  },
};

const OFFERS: Definition = {
  usage: 'offers',
  summary: 'what is offered to frameworks at this moment',
  options: [json()],
  action: async (raw, connection) => {
    const { parseListOptions } = await import('./parse-options.ts');
    const { offers } = await import('./commands/offers.ts');
    return offers(parseListOptions(raw, connection));
  },
};

const GONE: Definition = {
  usage: 'gone <agent>',
  summary: 'say that a node will not come back: its tasks have ended',
  options: [flag('--force', 'also if the agent is active')],
  action: async (raw, connection, [agent = '']) => {
    const { parseGoneOptions } = await import('./parse-options.ts');
    const { gone } = await import('./commands/gone.ts');
    return gone(parseGoneOptions(raw, connection), agent);
  },
};

const REPLAY: Definition = {
  usage: 'replay',
  summary: 'the cluster as it was at some moment, from the event log',
  options: [
    flag('--at <moment>', '10m (ago), a time, or an id of an event (default: now, and check)'),
    flag('-w, --wide', 'nothing cut to fit the terminal'),
    json(),
  ],
  action: async (raw, connection) => {
    const { parseReplayOptions } = await import('./parse-options.ts');
    const { replay } = await import('./commands/replay.ts');
    return replay(parseReplayOptions(raw, connection));
  },
};

function agentResourceOptions(): Option[] {
  return [
    flag(
      '--resources <list>',
      'what tasks may use: cpus=4,mem=8G,gpus=2 (default: cpus and mem of the node less --reserve)',
    ),
    flag(
      '--reserve <list>',
      'what is kept for the system (default: mem=512M, or a quarter of less than 2G)',
    ),
    repeated('--attribute <key=value>', 'what frameworks may ask for: rack=a1; may be repeated'),
    reserveFor(),
  ];
}

const DEV: Definition = {
  usage: 'dev',
  summary: 'a whole cluster on this machine, to try it',
  options: [
    flag('--state-dir <directory>', 'where it keeps its data (default: /var/lib/kaon/dev)'),
    ...agentResourceOptions(),
    ...agentSandboxOptions('root'),
  ],
  action: async (raw, connection) => {
    const { parseDevOptions } = await import('./parse-options.ts');
    const { dev } = await import('./commands/dev.ts');
    return dev(parseDevOptions(raw, connection));
  },
};

const AGENT = daemon({
  usage: 'agent',
  summary: 'the agent of this node: runs its tasks',
  options: [
    flag('--user', 'under the systemd of the user that starts it, without root'),
    flag('--unlimited', 'with --user: also where limits of tasks cannot be held'),
    flag(
      '--state-dir <directory>',
      'checkpoints and sandboxes (default: /var/lib/kaon, with --user ~/.local/state/kaon)',
    ),
    ...agentResourceOptions(),
    ...agentSandboxOptions(),
    flag('--agent-id <id>', 'its id (default: that of last time, or a new one)'),
    flag('--bus <address>', 'D-Bus address of systemd (default: the system bus, or the user bus)'),
    logLevel(),
    configFile(),
  ],
  // Of somebody who is not root; the file of the node's own agent is none of theirs.
  ownFile: ({ typed, environment }) =>
    typed['user'] === true ? userFile(environment, 'agent.toml') : undefined,
  loadParser: async () => {
    const { parseAgentOptions } = await import('./parse-options.ts');
    return ({ raw, connection }) => parseAgentOptions(raw, connection);
  },
  start: async (settings) => {
    const { agent } = await import('./commands/agent.ts');
    return agent(settings);
  },
});

/** In the order of the help: what people do every day first. */
export const GROUPS: readonly (readonly [string, readonly Definition[]])[] = [
  ['Tasks:', [RUN, SUBMIT, TASKS, TASK, WHY, EXPLAIN, LOGS, KILL]],
  ['The cluster:', [STATUS, AGENTS, FRAMEWORKS, EXECUTORS, OFFERS, EVENTS, REPLAY]],
  ['Nodes:', [DRAIN, UNDRAIN, DEACTIVATE, REACTIVATE, GONE]],
  ['Roles:', [ROLES, QUOTA, WEIGHT, RESERVE, UNRESERVE, RESERVATIONS]],
  ['Queues:', [BULLMQ]],
  ['Joining:', [JOIN_TOKEN, ACL, TOKEN, WHOAMI]],
  ['Certificates:', [CERTS]],
  ['Daemons:', [DEV, MASTER, AGENT, CONFIG, STEP_DOWN, SUBMIT_RUNNER, CHECK_REDIS, COMPLETION]],
];
