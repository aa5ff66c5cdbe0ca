/**
 * Proof of who has written an entry. A client with a token signs what it puts into the inbox, and the master what it sends
 * to an agent, each with the client's key: HMAC-SHA256 over the direction, the cluster, the client, its session, the place of
 * the entry in it, and the messages. So an entry is good in one place only, and nobody who merely can write to Redis makes one.
 */
import { createHmac } from 'node:crypto';
import { decodeEntry } from '../protocol/codec.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { ClientName, RegistryName } from '../protocol/keys.ts';
import type { Log } from './log.ts';
import type { Append, InboxEntry, Seal, Signature, StreamEntry } from './store.ts';
import type { Token } from './tokens.ts';
import { isSameKey } from './tokens.ts';

/** Where an entry belongs; `place` is the prefix of the cluster's keys. */
export interface EntryPlace {
  readonly place: string;
  readonly client: string;
  readonly session: string;
}

/** @returns the mac of an inbox entry: base64url */
export function macOfAppend(
  key: Buffer,
  { place, client, session }: EntryPlace,
  sequence: number,
  messages: string,
): string {
  return macOf(key, ['kaon inbox v1', place, client, session, String(sequence), messages]);
}

/** Whether an inbox entry was signed with that key, for just this place in just this session. */
export function isSigned(
  key: Buffer,
  place: string,
  { from, session, sequence, messages, signature }: InboxEntry,
): boolean {
  const mac = macOfAppend(key, { place, client: from, session }, sequence, messages);
  return isSameKey(Buffer.from(mac), Buffer.from(signature?.mac ?? ''));
}

/** @returns the seal of an entry of a client's stream; `position` grows within a session */
export function sealEntry(
  key: Buffer,
  { place, client, session }: EntryPlace,
  position: string,
  messages: string,
): Seal {
  const parts = ['kaon stream v1', place, client, session, position, messages];
  return { position, mac: macOf(key, parts) };
}

/** @returns a position that is after those of earlier commits, and of earlier entries of this one */
export function positionOf(commit: number, index: number): string {
  return `${String(commit)}-${String(index)}`;
}

function isAfter(position: string, last: string): boolean {
  const [commit = 0, index = 0] = position.split('-').map(Number);
  const [lastCommit = 0, lastIndex = 0] = last.split('-').map(Number);
  return commit > lastCommit || (commit === lastCommit && index > lastIndex);
}

/** A client's own side: signs what it says, and believes what the master has signed. Made of its token. */
export class ClientSigner {
  readonly #token: Token;
  readonly #place: string;
  readonly #log: Log;
  /** Of the session that was read last: how far, as the master counts; undefined: nothing yet. */
  #read: { readonly session: SessionId; position: string | undefined } | undefined;
  #refused = 0;

  constructor(token: Token, place: string, log: Log) {
    this.#token = token;
    this.#place = place;
    this.#log = log;
  }

  sign({ client, session, sequence, messages }: Append): Signature {
    const { name: principal, generation, key } = this.#token;
    const where = { place: this.#place, client, session };
    return { principal, generation, mac: macOfAppend(key, where, sequence, messages) };
  }

  /**
   * What may be believed of entries that were read, in order; for an agent, which starts whatever its master says. What may
   * not be is there without its messages, so that its place is read over. Each entry is to be shown once.
   */
  check(
    client: ClientName,
    session: SessionId,
    entries: readonly StreamEntry[],
  ): readonly StreamEntry[] {
    if (this.#read?.session !== session) this.#read = { session, position: undefined };
    const read = this.#read;
    return entries.map((entry) => {
      const problem = this.#problemOf({ place: this.#place, client, session }, entry);
      if (problem === undefined) {
        read.position = entry.seal?.position ?? read.position;
        return entry;
      }
      this.#refused += 1;
      const { id } = entry;
      this.#log.warn('stream.entry-refused', { client, entry: id, problem, count: this.#refused });
      return { ...entry, messages: '[]' };
    });
  }

  #problemOf(where: EntryPlace, { messages, seal }: StreamEntry): string | undefined {
    const last = this.#read?.position;
    if (!seal) {
      // A master that does not know this token cannot sign its refusal; one that has signed before can.
      if (last === undefined && isRefusal(messages)) return undefined;
      return 'it is not signed';
    }
    const { mac } = sealEntry(this.#token.key, where, seal.position, messages);
    if (!isSameKey(Buffer.from(mac), Buffer.from(seal.mac))) return 'its signature is wrong';
    if (last !== undefined && !isAfter(seal.position, last)) return 'it has been read before';
    return undefined;
  }
}

/** It makes an agent stop and can do nothing else. */
function isRefusal(messages: string): boolean {
  const decoded = decodeEntry(messages);
  return decoded.every((each) => each.ok && each.value.type === 'AgentError');
}

/** What a sealed record ends with: its mac as a last field, which readers of the record do not mind. */
const RECORD_SEAL = /,"seal":"([A-Za-z0-9_-]{43})"\}$/;

/** @returns a record of the registry with its seal: only a master with the cluster's key can have written it */
export function sealRecord(
  clusterKey: Buffer,
  where: { readonly place: string; readonly registry: RegistryName; readonly key: string },
  json: string,
): string {
  return `${json.slice(0, -1)},"seal":"${macOfRecord(clusterKey, where, json)}"}`;
}

/** @returns the record that was sealed; undefined if the seal is missing or wrong */
export function unsealRecord(
  clusterKey: Buffer,
  where: { readonly place: string; readonly registry: RegistryName; readonly key: string },
  sealed: string,
): string | undefined {
  const found = RECORD_SEAL.exec(sealed);
  if (!found) return undefined;
  const json = `${sealed.slice(0, found.index)}}`;
  const mac = macOfRecord(clusterKey, where, json);
  return isSameKey(Buffer.from(mac), Buffer.from(found[1] ?? '')) ? json : undefined;
}

function macOfRecord(
  clusterKey: Buffer,
  where: { readonly place: string; readonly registry: RegistryName; readonly key: string },
  json: string,
): string {
  return macOf(clusterKey, ['kaon record v1', where.place, where.registry, where.key, json]);
}

/** No part but the last may hold a zero byte; a client's name could, and then spoils only its own entries. */
function macOf(key: Buffer, parts: readonly string[]): string {
  return createHmac('sha256', key).update(parts.join('\0')).digest('base64url');
}
