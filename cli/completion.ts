/**
 * Completion for shells: commands, flags, and files where a flag takes one. Fixed texts that know this version's
 * commands and ask nothing at run time, so that a Tab is fast and needs no cluster.
 */
import type { CommandNode, FlagNode } from './command-tree.ts';
import { clusterFlags, commandTree, withSubcommands } from './command-tree.ts';
import { KaonError } from '../protocol/errors.ts';

/** Shells that have one, and the files that they look for. */
export const COMPLETION_FILES = { bash: 'kaon.bash', zsh: '_kaon', fish: 'kaon.fish' } as const;

/** A shell. */
export type Shell = keyof typeof COMPLETION_FILES;

const HELP_FLAGS: readonly FlagNode[] = [
  { term: '-h, --help', description: 'this help', names: ['-h', '--help'] },
];
const LOG_LEVELS = 'debug info warn error';

/** @throws KaonError `usage` for another shell */
export function completionFor(shell: string): string {
  const tree = commandTree();
  if (shell === 'bash') return bash(tree);
  if (shell === 'zsh') return zsh(tree);
  if (shell === 'fish') return fish(tree);
  throw new KaonError('usage', `there is no completion for ${shell}`, {
    hint: 'kaon completion bash, zsh or fish',
  });
}

function flagsOf(node: CommandNode): FlagNode[] {
  return [...node.flags, ...node.clusterFlags, ...HELP_FLAGS];
}

function programFlags(): FlagNode[] {
  const version = { term: '-V', description: 'the version', names: ['-V', '--version'] };
  return [...clusterFlags(), ...HELP_FLAGS, version];
}

/** What may follow a flag: words, the names of files, or something that only the user knows. */
function valuesOf({ names, value = '' }: FlagNode): 'files' | 'free' | string[] {
  if (value.includes('|')) return value.split('|');
  if (names.includes('--log-level')) return LOG_LEVELS.split(' ');
  return /^(file|path|directory|dir)$/.test(value) ? 'files' : 'free';
}

/** Flags with a value by what may follow them, each name once. */
function flagsByValue(tree: readonly CommandNode[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  const seen = new Set<string>();
  const flags = [...programFlags(), ...tree.flatMap(withSubcommands).flatMap(flagsOf)];
  for (const flag of flags.filter(({ value }) => value !== undefined)) {
    const values = valuesOf(flag);
    const key = typeof values === 'string' ? values : values.join(' ');
    const names = flag.names.filter((name) => !seen.has(name));
    for (const name of names) seen.add(name);
    groups.set(key, [...(groups.get(key) ?? []), ...names]);
  }
  return groups;
}

/** The lines that find out which command is typed: `case "$at $word"` sets `at`. */
function pathCases(tree: readonly CommandNode[]): string[] {
  return tree
    .flatMap(withSubcommands)
    .map(({ path }) => path.join(' '))
    .map((words) => `      ' ${words}') at=' ${words}' ;;`);
}

function bash(tree: readonly CommandNode[]): string {
  const values = [...flagsByValue(tree)].map(([key, names]) => {
    const then = { files: 'COMPREPLY=($(compgen -f -- "$current"))', free: ':' }[key];
    const words = then ?? `COMPREPLY=($(compgen -W '${key}' -- "$current"))`;
    return `    ${names.join(' | ')})\n      ${words}\n      return\n      ;;`;
  });
  const wordsOf = (commands: readonly CommandNode[], flags: readonly FlagNode[]): string =>
    [...commands.map(({ path }) => path.at(-1)), ...flags.flatMap(({ names }) => names)].join(' ');
  const words = tree
    .flatMap(withSubcommands)
    .map(
      (node) =>
        `    ' ${node.path.join(' ')}') words='${wordsOf(node.commands, flagsOf(node))}' ;;`,
    );
  return `# bash completion for kaon, made from its commands: kaon completion bash
_kaon() {
  local at='' word words index
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    # What comes after is another program's.
    if [[ $word == -- ]]; then return; fi
    case "$at $word" in
${pathCases(tree).join('\n')}
    esac
  done
  case $previous in
${values.join('\n')}
  esac
  case $at in
    '') words='${wordsOf(tree, programFlags())}' ;;
${words.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _kaon kaon
`;
}

function zsh(tree: readonly CommandNode[]): string {
  const entry = (name: string, text: string): string =>
    `'${name}:${text.replaceAll("'", "'\\''").replaceAll(':', '\\:')}'`;
  const lists = (commands: readonly CommandNode[], flags: readonly FlagNode[]): string => {
    const names = commands.map(({ path, summary }) => entry(path.at(-1) ?? '', summary));
    const flagEntries = flags.flatMap(({ names: all, description }) =>
      all.map((name) => entry(name, description)),
    );
    return `commands=(${names.join(' ')})\n      flags=(${flagEntries.join(' ')})`;
  };
  const cases = tree
    .flatMap(withSubcommands)
    .map(
      (node) =>
        `    ' ${node.path.join(' ')}')\n      ${lists(node.commands, flagsOf(node))}\n      ;;`,
    );
  const values = [...flagsByValue(tree)].map(([key, names]) => {
    const then = { files: '_files', free: "_message 'value'" }[key] ?? `compadd -- ${key}`;
    return `    ${names.join(' | ')})\n      ${then}\n      return\n      ;;`;
  });
  return `#compdef kaon
# zsh completion for kaon, made from its commands: kaon completion zsh
_kaon() {
  local at='' word index
  local -a commands flags
  for ((index = 2; index < CURRENT; index++)); do
    word=$words[index]
    # What comes after is another program's.
    if [[ $word == -- ]]; then _files; return; fi
    case "$at $word" in
${pathCases(tree).join('\n')}
    esac
  done
  case $words[CURRENT-1] in
${values.join('\n')}
  esac
  case $at in
    '')
      ${lists(tree, programFlags())}
      ;;
${cases.join('\n')}
  esac
  if [[ $words[CURRENT] == -* ]]; then
    _describe -o option flags
  elif (( $#commands )); then
    _describe command commands
  else
    _files
  fi
}
if [[ $funcstack[1] == _kaon ]]; then _kaon "$@"; else compdef _kaon kaon; fi
`;
}

function fish(tree: readonly CommandNode[]): string {
  const quoted = (text: string): string =>
    `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const flagLine = (condition: string, flag: FlagNode): string => {
    const names = flag.names.map((name) =>
      name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
    );
    const values = flag.value === undefined ? undefined : valuesOf(flag);
    let argument = '';
    if (values === 'files') argument = ' -r -F';
    else if (values === 'free') argument = ' -x';
    else if (values !== undefined) argument = ` -x -a '${values.join(' ')}'`;
    return `complete -c kaon -n ${quoted(condition)} ${names.join(' ')}${argument} -d ${quoted(flag.description)}`;
  };
  const nodeLines = (node: CommandNode): string[] => {
    const at = node.path.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ');
    const below = node.commands.map(({ path }) => path.at(-1) ?? '');
    const isHere =
      below.length > 0 ? `${at}; and not __fish_seen_subcommand_from ${below.join(' ')}` : at;
    return [
      ...node.commands.map(
        ({ path, summary }) =>
          `complete -c kaon -n ${quoted(isHere)} -a ${path.at(-1) ?? ''} -d ${quoted(summary)}`,
      ),
      ...flagsOf(node).map((flag) => flagLine(isHere, flag)),
      ...node.commands.flatMap(nodeLines),
    ];
  };
  const lines = [
    ...tree.map(
      ({ path, summary }) =>
        `complete -c kaon -f -n __fish_use_subcommand -a ${path.join(' ')} -d ${quoted(summary)}`,
    ),
    ...programFlags().map((flag) => flagLine('__fish_use_subcommand', flag)),
    ...tree.flatMap(nodeLines),
  ];
  return `# fish completion for kaon, made from its commands: kaon completion fish\n${lines.join('\n')}\n`;
}
