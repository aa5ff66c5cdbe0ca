/** A framework in a process of its own, to be killed: its options are its argument, `drain` and `stop` come by line. */
import { createInterface } from 'node:readline';
import { Load, type LoadOptions } from './load.ts';

const load = new Load(JSON.parse(process.argv[2] ?? '{}') as LoadOptions);
load.start();
createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'drain') load.drain();
  if (line === 'stop') void load.stop().then(() => process.exit(0));
});
