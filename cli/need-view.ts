/** Something that is needed, and what stands in its way, as lines. Pure. */
import type { AgentReason, NeedExplanation } from '../protocol/explanation.ts';
import { FITS_MAX } from '../protocol/explanation.ts';
import { formatResources } from '../protocol/resources.ts';
import { countOf, escapeControls } from './words.ts';

/** Agents that are shown for each reason, without `--wide`. */
const SHOWN_MAX = 5;

/** @returns lines of two blanks and more, with a newline at the end */
export function describeNeed(need: NeedExplanation, isWide: boolean): string {
  const { role, resources, count, attributes, quota, agents } = need;
  const what = resources ? `${String(count)} x (${formatResources(resources)})` : 'anything';
  const where = Object.entries(attributes).map(([key, value]) => ` where ${key}=${value}`);
  const under = role === '*' ? '' : ` under role ${role}`;
  const gang = need.gangFits === undefined ? [] : [gangWords(count, need.gangFits)];
  const lines = [
    `  needs ${what}${where.join(',')}${under}`,
    ...[...gang, ...quota].map((one) => `    ${one}`),
  ];
  if (need.fits !== undefined) lines.push(`    ${roomFor(need.fits)}`);
  for (const [code, total] of Object.entries(need.counts)) {
    const some = agents.filter((reason) => reason.code === code);
    const shown = isWide ? some : some.slice(0, SHOWN_MAX);
    lines.push(`    ${countOf(total, 'agent')} ${code}`);
    lines.push(...shown.map((reason) => `      ${describeAgent(reason)}`));
    if (total > shown.length) lines.push(`      and ${String(total - shown.length)} more`);
  }
  if (Object.keys(need.counts).length === 0) lines.push('    there is no agent');
  return `${escapeLines(lines)}\n`;
}

function gangWords(count: number, fit: number): string {
  return `a gang, all or none: ${String(fit)} of ${String(count)} would fit now`;
}

function describeAgent({ agentId, hostname, message }: AgentReason): string {
  const host = hostname === agentId ? '' : ` (${hostname})`;
  return `${agentId}${host}: ${message}`;
}

function escapeLines(lines: readonly string[]): string {
  return lines.map(escapeControls).join('\n');
}

/** @returns how many units find room: `3 units would fit at this moment` */
export function roomFor(units: number): string {
  if (units >= FITS_MAX) return `${String(FITS_MAX)} units or more would fit at this moment`;
  return units === 0
    ? 'no unit would fit at this moment'
    : `${countOf(units, 'unit')} would fit at this moment`;
}
