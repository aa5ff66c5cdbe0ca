/** The commands about masters; see `definitions.ts`. */
import { daemon } from './daemon.ts';
import type { Definition } from './definition.ts';
import { configFile, flag, logLevel } from './definition.ts';
import { listenOptions } from './definitions-api.ts';

/** `kaon master`. */
export const MASTER = daemon({
  usage: 'master',
  summary: 'a master: leads, or stands by',
  options: [
    flag('--lease <duration>', 'a leader that is not heard of for so long is replaced', '3s'),
    flag(
      '--offer-timeout <duration>',
      'an offer that is not answered for so long is taken back',
      '30s',
    ),
    flag('--agent-timeout <duration>', 'an agent that is silent for so long is unreachable', '75s'),
    flag(
      '--framework-timeout <duration>',
      'a framework that is silent for so long is disconnected',
      '30s',
    ),
    flag(
      '--minimum-offer <list>',
      'less than that is not offered: cpus=0.1,mem=64M',
      'cpus=0.01,mem=4M',
    ),
    flag('--whitelist <agents>', 'only these are offered: n1,rack7-* (default: all)'),
    flag(
      '--preempt-after <duration>',
      'what has waited so long may have tasks ended that go after it (default: never)',
    ),
    flag('--allocator <name>', 'who is offered what: drf, fifo, or a module: ./mine.js', 'drf'),
    flag('--allocator-timeout <duration>', 'a module that takes longer for a round is ended', '1s'),
    ...listenOptions(),
    logLevel(),
    configFile(),
  ],
  loadParser: async () => {
    const { parseMasterOptions } = await import('./master-options.ts');
    const { parseListenOptions } = await import('./listen-options.ts');
    return ({ raw, connection }) => ({
      ...parseMasterOptions(raw, connection),
      ...parseListenOptions(raw),
    });
  },
  start: async (settings) => {
    const { master } = await import('./commands/master.ts');
    return master(settings);
  },
});

/** `kaon step-down`. */
export const STEP_DOWN: Definition = {
  usage: 'step-down [masterid]',
  summary: 'give up the lease of a master: another leads at once',
  options: [
    flag('--current', 'of whichever master leads'),
    flag('--config <file>', 'the settings of a master: where the cluster is'),
  ],
  action: async (raw, given, [masterId]) => {
    const { parseStepDownOptions } = await import('./parse-options.ts');
    const { connectionWith } = await import('./daemon-settings.ts');
    const connection = connectionWith(raw, given, process.env);
    const options = parseStepDownOptions(raw, connection, masterId, process.env);
    const { stepDown } = await import('./commands/step-down.ts');
    return stepDown(options);
  },
};
