/**
 * Where the results go: attempts of reduce tasks write below `_temporary`, and the JobTracker, which alone knows which of
 * them counts, renames that one to `part-00000`. So two attempts never mix, also if a node comes back from the dead.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { attemptId } from './job.mjs';

const TEMPORARY = '_temporary';

/**
 * @param directory made if it is not there
 * @throws Error if there is something in it
 */
export function openOutput(directory) {
  mkdirSync(directory, { recursive: true });
  if (readdirSync(directory).length > 0) {
    throw new Error(`output ${directory}: there is something in it, which would be overwritten`);
  }
  const temporary = join(directory, TEMPORARY);
  mkdirSync(temporary);
  const temporaryPath = (task) => join(temporary, attemptId(task));
  const partPath = (index) => join(directory, `part-${String(index).padStart(5, '0')}`);
  return {
    temporaryPath,
    /** The attempt that counts has finished. @returns why its result cannot be taken; undefined if it was */
    take: (task) => {
      try {
        renameSync(temporaryPath(task), partPath(task.index));
        return undefined;
      } catch (error) {
        return `its result cannot be taken: ${error.message}`;
      }
    },
    /** All parts are there: says so, as Hadoop does, by an empty file. */
    finish: () => {
      rmSync(temporary, { recursive: true, force: true });
      writeFileSync(join(directory, '_SUCCESS'), '');
    },
    /** Removes what there is, so that nobody takes a part for the whole, and the job can be run again. */
    abandon: () => {
      rmSync(temporary, { recursive: true, force: true });
      for (const name of readdirSync(directory)) {
        if (/^part-\d{5}$/.test(name)) rmSync(join(directory, name));
      }
    },
  };
}
