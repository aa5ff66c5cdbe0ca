/**
 * Tokens: what a client of a secured cluster has. A token is a name, a generation, and a key derived from both and the
 * cluster's key; the master derives it anew whenever it needs it, so nobody stores it. See
 * `docs/decisions/0010-security.md`.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { PrincipalName } from '../protocol/principals.ts';

/** Length of the cluster's key and of every key derived from it, bytes. */
export const KEY_BYTES = 32;

const PREFIX = 'kaon1_';
/** A key as base64url has 43 characters; the part before it may have `_` in it too. */
const TOKEN = /^kaon1_([A-Za-z0-9_-]{1,400})_([A-Za-z0-9_-]{43})$/;

/** A token taken apart. Whether it is good, only the master knows. */
export interface Token {
  readonly name: string;
  readonly generation: number;
  readonly key: Buffer;
}

/** @returns the text of a new key of a cluster: 64 hexadecimal digits */
export function makeClusterKey(): string {
  return randomBytes(KEY_BYTES).toString('hex');
}

/**
 * @param text 32 bytes as 64 hexadecimal digits or as base64, whatever white space is around them
 * @returns undefined if it is anything else
 */
export function parseClusterKey(text: string): Buffer | undefined {
  const trimmed = text.trim();
  if (/^[0-9a-fA-F]{64}$/.test(trimmed)) return Buffer.from(trimmed, 'hex');
  return /^[A-Za-z0-9+/_-]{43}=?$/.test(trimmed) ? Buffer.from(trimmed, 'base64') : undefined;
}

/** @returns the key of a principal's token of that generation */
export function keyOf(clusterKey: Buffer, name: string, generation: number): Buffer {
  const text = `kaon token v1\0${name}\0${String(generation)}`;
  return createHmac('sha256', clusterKey).update(text).digest();
}

/** @returns the token as text, for whoever is to be that principal */
export function makeToken(clusterKey: Buffer, name: string, generation: number): string {
  const claim = Buffer.from(JSON.stringify({ n: name, g: generation })).toString('base64url');
  return `${PREFIX}${claim}_${keyOf(clusterKey, name, generation).toString('base64url')}`;
}

/**
 * @param text white space around it does not count
 * @returns undefined if it is not a token, or a mangled one. What it says may still be wrong: only the key proves it
 */
export function parseToken(text: string): Token | undefined {
  const [, claim = '', key = ''] = TOKEN.exec(text.trim()) ?? [];
  if (key === '') return undefined;
  const { n: name, g: generation } = readClaim(claim);
  if (!PrincipalName.safeParse(name).success) return undefined;
  if (!Number.isSafeInteger(generation) || Number(generation) < 1) return undefined;
  return {
    name: name as string,
    generation: generation as number,
    key: Buffer.from(key, 'base64url'),
  };
}

function readClaim(claim: string): { readonly n?: unknown; readonly g?: unknown } {
  try {
    const value: unknown = JSON.parse(Buffer.from(claim, 'base64url').toString());
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {}; // Mangled: no JSON is no claim.
  }
}

/** True if both are the same bytes; takes as long for a wrong guess as for a nearly right one. */
export function isSameKey(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}
