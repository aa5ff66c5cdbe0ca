/** The commands as data, for what is written from them: manual pages and completion. Reads definitions and help texts only. */
import type { Option } from 'commander';
import { Help } from 'commander';
import type { Definition } from './definition.ts';
import { GROUPS } from './definitions.ts';
import { commandHelp } from './help.ts';
import { connectionOptions } from './program.ts';

/** One flag. */
export interface FlagNode {
  /** As in the help: `-c, --cpus <cores>`. */
  readonly term: string;
  readonly description: string;
  /** What may be typed: `['-c', '--cpus']`. */
  readonly names: readonly string[];
  /** What its value is, `file`; absent if it has none. */
  readonly value?: string;
}

/** One command that is in the help. */
export interface CommandNode {
  /** Words after `kaon`: `['task', 'resize']`. */
  readonly path: readonly string[];
  /** Heading of the help that it is under: `Tasks:`. */
  readonly group: string;
  readonly summary: string;
  readonly description: string;
  /** After `kaon COMMAND`. */
  readonly syntax: string;
  /** What the help says after the flags. */
  readonly after: string;
  readonly flags: readonly FlagNode[];
  /** Flags that all commands have. */
  readonly clusterFlags: readonly FlagNode[];
  readonly commands: readonly CommandNode[];
  /** What is after its first argument belongs to what it runs. */
  readonly passesThrough: boolean;
}

/** @returns the commands, in the order of the help */
export function commandTree(): CommandNode[] {
  return GROUPS.flatMap(([group, definitions]) => nodesOf(definitions, [], group));
}

/** @returns the command and all that are under it, each before what is under it */
export function withSubcommands(node: CommandNode): CommandNode[] {
  return [node, ...node.commands.flatMap(withSubcommands)];
}

/** @returns the flags that may stand before the command */
export function clusterFlags(): FlagNode[] {
  return connectionOptions().map(flagNode);
}

function nodesOf(
  definitions: readonly Definition[],
  above: readonly string[],
  group: string,
): CommandNode[] {
  return definitions
    .filter((one) => one.isHidden !== true)
    .map((one) => {
      const path = [...above, one.usage.split(' ')[0] ?? ''];
      return {
        path,
        group,
        summary: one.summary,
        ...commandHelp(path.join(' ')),
        flags: one.options.map(flagNode),
        clusterFlags: clusterFlags(),
        commands: nodesOf(one.commands ?? [], path, group),
        passesThrough: one.passesThrough ?? false,
      };
    });
}

function flagNode(option: Option): FlagNode {
  const help = new Help();
  const [, value] = /<([^>]*)>/.exec(option.flags) ?? [];
  return {
    term: help.optionTerm(option),
    description: help.optionDescription(option),
    names: [option.short, option.long].filter((name) => name !== undefined),
    ...(value === undefined ? {} : { value }),
  };
}
