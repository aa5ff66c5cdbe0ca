/**
 * Manual pages, from the same texts as the help: man(7). A page of section 8 for what runs as a service, of section 1 for
 * what people type.
 */
import type { CommandNode, FlagNode } from './command-tree.ts';
import { clusterFlags, commandTree, withSubcommands } from './command-tree.ts';
import { PROGRAM_HELP } from './help.ts';

/** A file of the package. */
export interface PackageFile {
  /** `man/kaon-run.1` */
  readonly path: string;
  readonly text: string;
}

const SERVICES = new Set(['master', 'agent', 'bullmq', 'step-down']);
const SUMMARY = 'schedules tasks over Linux nodes';
const DESCRIPTION = `Kaon runs tasks on the nodes of a cluster: systemd runs the processes and holds their limits, Redis carries
messages and state, a master decides. Every command has a page of its own.`;

/** @param version of Kaon, for the foot of the pages */
export function manualPages(version: string): PackageFile[] {
  const tree = commandTree();
  const pages = tree.flatMap(withSubcommands).map((node) => commandPage(node, version));
  return [programPage(tree, version), ...pages];
}

function programPage(tree: readonly CommandNode[], version: string): PackageFile {
  const groups = [...new Set(tree.map(({ group }) => group))];
  const commands = groups.flatMap((group) => [
    `.SS ${escape(group.replace(/:$/, ''))}`,
    ...tree
      .filter((node) => node.group === group)
      .flatMap((node) => ['.TP', `.B ${escape(node.path.join(' '))}`, line(node.summary)]),
  ]);
  const lines = [
    titleLine('KAON', 1, version),
    ...['.SH NAME', `kaon \\- ${escape(SUMMARY)}`],
    ...['.SH SYNOPSIS', '.B kaon', escape('[--redis URL] [--cluster NAME] COMMAND ...')],
    ...['.SH DESCRIPTION', ...paragraphs(DESCRIPTION)],
    ...['.SH COMMANDS', ...commands],
    ...['.SH OPTIONS', ...flagLines(clusterFlags())],
    ...paragraphs(PROGRAM_HELP, 'NOTES'),
    ...['.SH FILES', ...fileLines()],
    ...seeAlso(tree),
  ];
  return { path: 'man/kaon.1', text: `${lines.join('\n')}\n` };
}

function commandPage(node: CommandNode, version: string): PackageFile {
  const name = pageName(node);
  const section = sectionOf(node);
  const words = node.path.join(' ');
  const parent = commandTree().filter(({ path }) => path.length < node.path.length);
  const lines = [
    titleLine(name.toUpperCase(), section, version),
    ...['.SH NAME', `${escape(name)} \\- ${escape(node.summary)}`],
    ...['.SH SYNOPSIS', `.B ${escape(`kaon ${words}`)}`, line(node.syntax)],
    ...['.SH DESCRIPTION', ...paragraphs(node.description)],
    ...['.SH OPTIONS', ...flagLines(node.flags)],
    ...['.SS Cluster', ...flagLines(node.clusterFlags)],
    ...paragraphs(node.after, 'NOTES'),
    ...seeAlso([...parent.filter(({ path }) => path[0] === node.path[0]), ...node.commands], true),
  ];
  return { path: `man/${name}.${String(section)}`, text: `${lines.join('\n')}\n` };
}

function pageName({ path }: CommandNode): string {
  return ['kaon', ...path].join('-');
}

function sectionOf({ path }: CommandNode): number {
  return path.length === 1 && SERVICES.has(path[0] ?? '') ? 8 : 1;
}

function titleLine(name: string, section: number, version: string): string {
  // Addresses and flags are neither broken nor spread.
  return `.TH ${escape(name)} ${String(section)} "" "kaon ${escape(version)}" "Kaon"\n.nh\n.ad l`;
}

function flagLines(flags: readonly FlagNode[]): string[] {
  return flags.flatMap(({ term, description }) => ['.TP', `.B ${escape(term)}`, line(description)]);
}

function fileLines(): string[] {
  const files = [
    ['/etc/kaon/master.toml, agent.toml, bullmq.toml', 'settings of the services'],
    ['/etc/kaon/credentials/', 'secrets of the services, one a file'],
    ['/var/lib/kaon/', 'state of the services, and what tasks have written'],
  ];
  return files.flatMap(([path = '', what = '']) => ['.TP', `.I ${escape(path)}`, line(what)]);
}

function seeAlso(nodes: readonly CommandNode[], isWithProgram = false): string[] {
  const pages = nodes.map((node) => `.BR ${escape(pageName(node))} (${String(sectionOf(node))})`);
  const all = [...(isWithProgram ? ['.BR kaon (1)'] : []), ...pages];
  return [
    '.SH SEE ALSO',
    ...all.map((page, index) => (index + 1 < all.length ? `${page},` : page)),
  ];
}

/**
 * Paragraphs of a help text. One that is indented, or has indented lines, keeps its lines; `Examples:` alone on the first
 * line of one is a heading.
 *
 * @param heading for paragraphs before the first heading; absent if they are under one already
 */
function paragraphs(text: string, heading?: string): string[] {
  const blocks = text
    .replace(/^\n+|\s+$/g, '')
    .split(/\n\n+/)
    .filter((block) => block !== '');
  let open = heading;
  return blocks.flatMap((block) => {
    const before = open === undefined ? '.PP' : `.SH ${open}`;
    open = undefined;
    return headedBlock(block) ?? [before, ...bodyLines(block)];
  });
}

/** A paragraph that brings its own heading. */
function headedBlock(block: string): string[] | undefined {
  const [, title, examples] = /^([A-Z][A-Za-z ]*):\n(.*)$/s.exec(block) ?? [];
  if (title !== undefined && examples !== undefined)
    return [`.SH ${escape(title.toUpperCase())}`, ...asWritten(examples.split('\n'))];
  const [, codes] = /^Exit codes?: (.*)$/s.exec(block) ?? [];
  return codes === undefined ? undefined : ['.SH EXIT STATUS', ...bodyLines(codes)];
}

function bodyLines(body: string): string[] {
  const lines = body.split('\n');
  return /^ /m.test(body) ? asWritten(lines) : lines.map(line);
}

function asWritten(lines: readonly string[]): string[] {
  return ['.nf', ...lines.map(line), '.fi'];
}

/** A line of text: never taken for a request of roff. */
function line(text: string): string {
  const escaped = escape(text);
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}

function escape(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti');
}
