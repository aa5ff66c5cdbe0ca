/**
 * The program that reads a command line: puts together commands, help and errors of usage. Definitions only, so that
 * `--help` and `--version` load nothing else.
 */
import { Command, Help, Option } from 'commander';
import { GROUPS } from './definitions.ts';
import type { Definition } from './definition.ts';
import { commandHelp, PROGRAM_HELP } from './help.ts';
import type { RawOptions } from './parse-options.ts';
import { paintFor } from './style.ts';

/** What the process gives to the program. */
export interface ProgramOptions {
  readonly version: string;
  /** For `KAON_REDIS` and `KAON_CLUSTER`. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Called with the exit code of the command that was run. */
  readonly finish: (exitCode: number) => void;
}

/** @returns the program, ready to parse; errors of usage are thrown as CommanderError after they were written */
export function createProgram(options: ProgramOptions): Command {
  const program = new Command('kaon');
  program
    .description('Kaon schedules tasks over Linux nodes: systemd runs them, Redis connects them.')
    .usage('[--redis URL] [--cluster NAME] COMMAND ...')
    .version(options.version, '-V, --version', 'the version, and nothing else')
    .helpOption('-h, --help', 'this help; kaon COMMAND --help says more')
    .helpCommand('help [command]', 'the same as COMMAND --help')
    .enablePositionalOptions()
    .exitOverride()
    .showHelpAfterError('hint: kaon --help lists the commands')
    .configureOutput({
      outputError: (text, write) => {
        write(inOurWords(text));
      },
    })
    .configureHelp({
      styleTitle: (title) => paintFor(process.stdout)('bold', title),
      subcommandTerm: (command) =>
        command
          .usage()
          .replace(/\[options\] ?/, `${command.name()} `)
          .trim(),
      // `kaon help run` works, and nobody needs to be told.
      visibleCommands: (command) =>
        new Help().visibleCommands(command).filter((one) => one.name() !== 'help'),
    })
    .addHelpText('after', PROGRAM_HELP);
  for (const option of connectionOptions()) program.addOption(option);
  for (const [heading, definitions] of GROUPS) {
    program.commandsGroup(heading);
    for (const definition of definitions) define([program], definition, options);
  }
  return program;
}

/** Commander's errors in the form that all others have: one line, no capital, no full stop. */
function inOurWords(text: string): string {
  return text
    .replace(/^error: /, 'kaon: ')
    .replace(/\n\(Did you mean (.*)\?\)/s, '; did you mean $1?')
    .replace(/\. Expected (.*)\.\n/, ': expected $1\n');
}

/** @param above the program, and the command that this one is under if there is one */
function define(above: readonly Command[], definition: Definition, options: ProgramOptions): void {
  const { usage, summary, action, passesThrough = false, isHidden = false } = definition;
  const { isLocal = false } = definition;
  const parent = above.at(-1) ?? new Command();
  const command = parent.command(usage, { hidden: isHidden }).summary(summary);
  const path = [...above, command];
  const name = path
    .slice(1)
    .map((one) => one.name())
    .join(' ');
  const { description, syntax, after } = commandHelp(name);
  command
    .description(description)
    .usage(syntax)
    .helpOption('-h, --help', 'this help')
    .showHelpAfterError(`hint: kaon ${name} --help lists its flags, with examples`)
    .passThroughOptions(passesThrough)
    .addHelpText('after', after);
  for (const option of definition.options) command.addOption(option);
  const ofCluster = isLocal ? [] : connectionOptions();
  for (const option of ofCluster) command.addOption(option.helpGroup('Cluster:'));
  command.action(async () => {
    // Given before the command or after it; after it is nearer.
    const raw: RawOptions = Object.assign({}, ...path.map((one) => one.opts())) as RawOptions;
    if (definition.daemon) {
      const flags = [...connectionOptions(), ...definition.options];
      const sourceOf = (key: string): string | undefined => sourceIn(path, key);
      const { environment } = options;
      options.finish(await definition.daemon.run({ flags, typed: raw, sourceOf, environment }));
      return;
    }
    const { parseConnection } = await import('./parse-options.ts');
    const connection = parseConnection(raw, isLocal ? {} : options.environment);
    options.finish(await action(raw, connection, command.args));
  });
  if (!definition.commands) return;
  // Its arguments are not names of commands, `help` neither.
  command.helpCommand(false).enablePositionalOptions();
  for (const one of definition.commands) define(path, one, options);
}

/** Where the value of a flag comes from that may stand before the command or after it. */
function sourceIn(path: readonly Command[], key: string): string | undefined {
  return path
    .map((one) => one.getOptionValueSource(key))
    .findLast((source) => source !== undefined);
}

/** The flags that say where the cluster is, of every command. */
export function connectionOptions(): Option[] {
  return [
    new Option(
      '--redis <url>',
      'address of Redis (default: KAON_REDIS, or redis://127.0.0.1:6379)',
    ),
    new Option('--cluster <name>', 'name of the cluster (default: KAON_CLUSTER, or "default")'),
    new Option('--redis-ca <path>', 'for rediss://, the authority to trust (KAON_REDIS_CA)'),
    new Option('--redis-cert <path>', 'and a client certificate (KAON_REDIS_CERT)'),
    new Option('--redis-key <path>', 'with its key (KAON_REDIS_KEY)'),
  ];
}
