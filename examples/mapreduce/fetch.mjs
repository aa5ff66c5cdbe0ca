/** The copying of the shuffle: one partition of every map output, from whichever nodes have them, into local files. */
import { createWriteStream, statSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** At a time. */
const COPIES_MAX = 6;
/** Before each further attempt; then the output counts as lost. */
const RETRY_DELAYS_MS = [100, 500, 1500];
/** Without a byte for so long, the other side is not there. */
const SILENCE_MAX_MS = 10_000;

/**
 * @param outputs `[{tracker, output}]`: the address of the tracker that has it, and its name there
 * @returns the files in the order of the outputs; and which of them could not be had, with the last error
 */
export async function fetchAll({ outputs, partition, directory }) {
  const agent = new Agent({ keepAlive: true, maxSockets: COPIES_MAX });
  const files = [];
  const lost = [];
  /** Trackers that have not answered: their other outputs are asked for once, without patience. */
  const silent = new Set();
  let problem = '';
  let next = 0;
  const copyNext = async () => {
    while (next < outputs.length) {
      const position = next;
      next += 1;
      const { tracker, output } = outputs[position];
      const path = join(directory, `copy-${position}`);
      const delays = silent.has(tracker) ? [] : RETRY_DELAYS_MS;
      try {
        await copyPatiently({ url: `${tracker}/${output}/${partition}`, path, agent, delays });
        files[position] = { path, start: 0, end: statSync(path).size };
      } catch (error) {
        if (error.code === 'ECONNREFUSED' || error.code === 'SILENCE') silent.add(tracker);
        lost.push(output);
        problem = error.message;
      }
    }
  };
  await Promise.all(Array.from({ length: COPIES_MAX }, copyNext));
  agent.destroy();
  return { files, lost, problem };
}

async function copyPatiently({ url, path, agent, delays }) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await copy(url, path, agent);
      return;
    } catch (error) {
      if (attempt >= delays.length || error.code === 'NOT_THERE') throw error;
    }
    await delay(delays[attempt]);
  }
}

/** @throws Error also if fewer bytes came than were said */
async function copy(url, path, agent) {
  const response = await new Promise((resolve, reject) => {
    const request = get(url, { agent, timeout: SILENCE_MAX_MS }, resolve);
    request.once('error', reject);
    request.once('timeout', () =>
      request.destroy(coded('SILENCE', `nothing came for ${SILENCE_MAX_MS / 1000} s`)),
    );
  });
  if (response.statusCode !== 200) {
    response.resume();
    throw coded('NOT_THERE', `the tracker answered ${response.statusCode}`);
  }
  await pipeline(response, createWriteStream(path));
  const { size } = statSync(path);
  const expected = Number(response.headers['content-length']);
  if (size !== expected) throw new Error(`${size} bytes came of ${expected}`);
}

const coded = (code, message) => Object.assign(new Error(message), { code });
