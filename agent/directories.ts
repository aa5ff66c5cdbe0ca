/**
 * Directories of reservations with disk: `DIR/directories/NAME/`, with `reservation.json` (what the reservation is: the
 * cluster may have forgotten it) and `data/` (of the task's user, for the tasks). They are made by the first task that has
 * disk of the reservation, outlive every task and agent, and are removed on the master's word alone: moved to `DIR/removed/`
 * first, so that an agent that is killed in the middle never takes half of one for whole.
 */
import { createHash } from 'node:crypto';
import { chownSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../io/log.ts';
import type { Decoded } from '../protocol/codec.ts';
import { decodeWith } from '../protocol/codec.ts';
import { codeOf, KaonError, messageOf } from '../protocol/errors.ts';
import type { ReservationId } from '../protocol/ids.ts';
import { Reservation } from '../protocol/reservations.ts';
import type { AgentEffect, AgentEvent } from './core/events.ts';
import type { AgentState } from './core/state.ts';
import { replaceFile } from './files.ts';
import type { Grant } from './sandboxing.ts';

/** Of a name, so that it is one on every file system. */
const NAME_MAX_BYTES = 200;
const FILE = 'reservation.json';

/** Whatever could be in the name of a role is in the id of a reservation; systemd and the file system take less. */
function nameOf(id: ReservationId): string {
  const name = id.replaceAll(/[^\w.-]|^\./gu, (character) => {
    return [...Buffer.from(character)].map((byte) => `+${byte.toString(16)}`).join('');
  });
  if (name.length <= NAME_MAX_BYTES) return name;
  return `+${createHash('sha256').update(id).digest('hex')}`;
}

function placeOf(root: string, id: ReservationId): string {
  return join(root, 'directories', nameOf(id));
}

/** Writes down whose directory is to be there. @throws the operating system's error */
function noteDirectory(root: string, reservation: Reservation): void {
  const place = placeOf(root, reservation.reservationId);
  mkdirSync(place, { recursive: true, mode: 0o755 });
  replaceFile(join(place, FILE), JSON.stringify(reservation));
}

/**
 * What a task is to have of a reservation; made for its user if nobody has had it before.
 *
 * @param root the agent's own directory
 * @returns the absolute path
 * @throws KaonError `not-granted` if its user could not use it, `not-prepared` if it cannot be made
 */
export function openDirectory(root: string, id: ReservationId, granted: Grant): string {
  if (granted.isDynamic) {
    throw new KaonError(
      'not-granted',
      `the directory of reservation ${id} needs a user that is there after the task, and tasks of this node have dynamic ones: name a user, or give the agent a --task-user`,
    );
  }
  const path = join(placeOf(root, id), 'data');
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') {
      const message = `the directory of reservation ${id} could not be made: ${messageOf(error)}`;
      throw new KaonError('not-prepared', message, { cause: error });
    }
  }
  giveTo(path, id, granted);
  return path;
}

/** What was made and not given away was made by an agent that was killed just then. */
function giveTo(path: string, id: ReservationId, { ids, user }: Grant): void {
  if (!ids) return;
  const { uid } = lstatSync(path);
  if (uid === ids.uid) return;
  if (uid === process.getuid?.() && readdirSync(path).length === 0) {
    chownSync(path, ids.uid, ids.gid);
    return;
  }
  throw new KaonError(
    'not-granted',
    `the directory of reservation ${id} has files of user ${String(uid)}, and the task is to run as ${String(user)} (${String(ids.uid)}): run it as that user, or give ${path} to another with chown -R`,
  );
}

/**
 * Reads which directories there are. One that cannot be read is named in the log and left alone: nothing is ever removed
 * because of that.
 */
async function readDirectories(root: string, log: Log): Promise<Reservation[]> {
  const found: Reservation[] = [];
  for (const name of await list(join(root, 'directories'))) {
    const path = join(root, 'directories', name, FILE);
    const decoded = readFile(path);
    if (decoded.ok) found.push(decoded.value);
    else log.error('directory.bad', { path, error: decoded.message, action: 'left alone' });
  }
  return found;
}

function readFile(path: string): Decoded<Reservation> {
  try {
    return decodeWith(Reservation, readFileSync(path, 'utf8'));
  } catch (error) {
    return { ok: false, code: 'invalid', message: messageOf(error) };
  }
}

/** Those that were on their way out when the agent before this one ended. */
async function finishRemovals(root: string): Promise<void> {
  const removed = join(root, 'removed');
  for (const name of await list(removed)) {
    await rm(join(removed, name), { recursive: true, force: true });
  }
}

/** Removes a directory with all that is in it; it need not be there. @throws the operating system's error */
async function removeDirectory(root: string, id: ReservationId): Promise<void> {
  const removed = join(root, 'removed', nameOf(id));
  await rm(removed, { recursive: true, force: true });
  await mkdir(join(root, 'removed'), { recursive: true, mode: 0o700 });
  try {
    await rename(placeOf(root, id), removed);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
  await rm(removed, { recursive: true, force: true });
}

async function list(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).sort();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** What a keeper works with. */
export interface DirectoryKeeperOptions {
  readonly state: AgentState;
  /** The agent's own. */
  readonly directory: string;
  readonly log: Log;
  readonly tell: (event: AgentEvent) => void;
}

/** Does what the core decides of directories. */
export class DirectoryKeeper {
  readonly #options: DirectoryKeeperOptions;

  constructor(options: DirectoryKeeperOptions) {
    this.#options = options;
  }

  /** Fills the state with those that are there. @throws the operating system's error */
  async load(): Promise<void> {
    const { state, directory, log } = this.#options;
    for (const reservation of await readDirectories(directory, log)) {
      state.directories.set(reservation.reservationId, reservation);
    }
    finishRemovals(directory).catch((error: unknown) => {
      log.error('directory.remove-failed', { error: messageOf(error) });
    });
  }

  /** Notes at once; removes after it has returned. */
  perform(effect: Extract<AgentEffect, { type: 'directory.note' | 'directory.remove' }>): void {
    if (effect.type === 'directory.note') this.#note(effect.reservation);
    else void this.#remove(effect.reservationId);
  }

  /** Where it cannot be made, what needs it is not started. */
  #note(reservation: Reservation): void {
    const { directory, log } = this.#options;
    const { reservationId } = reservation;
    try {
      noteDirectory(directory, reservation);
    } catch (error) {
      log.warn('directory.note-failed', { reservationId, error: messageOf(error) });
    }
  }

  async #remove(reservationId: ReservationId): Promise<void> {
    const { directory, log, tell } = this.#options;
    try {
      await removeDirectory(directory, reservationId);
      log.info('directory.removed', { reservationId });
      tell({ type: 'directory.removed', reservationId });
    } catch (error) {
      log.error('directory.remove-failed', { reservationId, error: messageOf(error) });
      tell({ type: 'directory.removal-failed', reservationId });
    }
  }
}
