/**
 * The process of one attempt: a map or a reduce task, ordered by its TaskTracker over the channel of its parent, and told
 * of there once it is done or has failed. A process of its own, because the work is synchronous and its memory bounded:
 * what goes wrong here ends nobody else.
 */
import { rmSync } from 'node:fs';
import { runMap } from './map-task.mjs';
import { loadProgram } from './program.mjs';
import { OutputsLost, runReduce } from './reduce-task.mjs';

async function run(order) {
  const program = await loadProgram(order.program);
  if (order.kind === 'map') return runMap(order, program);
  try {
    return await runReduce(order, program);
  } finally {
    rmSync(order.directory, { recursive: true, force: true });
  }
}

function tell(answer) {
  process.send(answer, () => process.exit(0));
}

/** What this process has used itself. */
function usage() {
  const { user, system } = process.cpuUsage();
  return { peakKib: process.resourceUsage().maxRSS, cpuMs: Math.round((user + system) / 1000) };
}

process.once('message', (order) => {
  run(order).then(
    (counters) => tell({ counters: { ...counters, ...usage() } }),
    (error) =>
      tell({ message: error.message, lost: error instanceof OutputsLost ? error.lost : [] }),
  );
});
// Nobody is left to tell.
process.once('disconnect', () => process.exit(1));
