/** What was asked of `kaon token` and `kaon whoami`, checked. */
import { AgentId } from '../protocol/ids.ts';
import type { PrincipalKind } from '../protocol/principals.ts';
import { PRINCIPAL_KINDS, PrincipalName } from '../protocol/principals.ts';
import { usageError } from './failure.ts';
import { choiceOf, DURATION_MAX_MS, durationOf, flagError } from './flags.ts';
import type { ConnectionOptions } from './options.ts';
import type { RawOptions } from './parse-options.ts';

/** What all of `kaon token` needs. */
export interface TokenOptions extends ConnectionOptions {
  /** File of the cluster's key; absent: the credential. */
  readonly clusterKeyFile?: string | undefined;
}

/** `kaon token create`. */
export interface CreateTokenOptions extends TokenOptions {
  readonly name: string;
  readonly kind: PrincipalKind;
  readonly roles: readonly string[];
  readonly users: readonly string[];
  readonly agentId?: AgentId | undefined;
  /** From now on; absent: for ever. */
  readonly lifeMs?: number | undefined;
}

const LIFE = { minMs: 1000, maxMs: DURATION_MAX_MS };

/** @throws KaonError `usage` */
export function parseTokenOptions(raw: RawOptions, connection: ConnectionOptions): TokenOptions {
  return { ...connection, clusterKeyFile: text(raw, 'clusterKeyFile') };
}

/** @throws KaonError `usage` */
export function parseCreateTokenOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
  name: string,
): CreateTokenOptions {
  const kind = text(raw, 'kind');
  if (kind === undefined) {
    throw usageError(`--kind is missing; it is one of ${PRINCIPAL_KINDS.join(', ')}`);
  }
  const expires = text(raw, 'expires');
  const agent = text(raw, 'agent');
  return {
    ...parseTokenOptions(raw, connection),
    name: tokenNameOf(name),
    kind: choiceOf({ flag: '--kind', value: kind }, PRINCIPAL_KINDS),
    roles: list(raw, 'role'),
    users: list(raw, 'user'),
    agentId: agent === undefined ? undefined : agentIdOf(agent),
    lifeMs:
      expires === undefined ? undefined : durationOf({ flag: '--expires', value: expires }, LIFE),
  };
}

/** @throws KaonError `usage` */
export function tokenNameOf(name: string): string {
  const parsed = PrincipalName.safeParse(name);
  if (parsed.success) return parsed.data;
  throw usageError(
    `${JSON.stringify(name)} is no name of a token: it has up to 64 letters, digits, "_", "." and "-"`,
  );
}

function agentIdOf(value: string): AgentId {
  const parsed = AgentId.safeParse(value);
  if (parsed.success) return parsed.data;
  throw flagError({ flag: '--agent', value }, parsed.error.issues[0]?.message ?? 'not an id');
}

function list(raw: RawOptions, name: string): string[] {
  const value = raw[name];
  return Array.isArray(value) ? value.map(String) : [];
}

function text(raw: RawOptions, name: string): string | undefined {
  const value = raw[name];
  return typeof value === 'string' ? value : undefined;
}
