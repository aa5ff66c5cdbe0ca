// Adds reports to a queue of BullMQ: many light ones with some heavy ones among them, in ONE queue. A producer like any other,
// and it stays the same whoever does the reports. Only the heavy ones say what they need; a plain BullMQ worker takes that for
// data like the rest.
//
// Usage: node produce.mjs [--light 60] [--heavy 18] [--queue reports] [--redis redis://127.0.0.1:6379]

import { parseArgs } from 'node:util';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';

const { values } = parseArgs({
  options: {
    light: { type: 'string', default: '60' },
    heavy: { type: 'string', default: '18' },
    queue: { type: 'string', default: 'reports' },
    redis: { type: 'string', default: 'redis://127.0.0.1:6379' },
  },
});

const LIGHT_ROWS = 2_000_000;
const HEAVY_ROWS = 20_000_000;

const light = (number) => ({
  name: 'light',
  data: { customer: `customer-${number}`, rows: LIGHT_ROWS },
});
const heavy = (number) => ({
  name: 'heavy',
  data: {
    customer: `customer-${number}`,
    rows: HEAVY_ROWS,
    kaon: { cpus: 1, mem: '384M' },
  },
});

/** Evenly among the light ones, as they come in life: nobody sorts them. */
function mix(lightCount, heavyCount) {
  const total = lightCount + heavyCount;
  const heavyBefore = (number) => Math.floor((number * heavyCount) / total);
  return Array.from({ length: total }, (_, number) =>
    heavyBefore(number + 1) > heavyBefore(number) ? heavy(number) : light(number),
  );
}

const connection = new Redis(values.redis, { maxRetriesPerRequest: null });
const queue = new Queue(values.queue, { connection });
const jobs = await queue.addBulk(mix(Number(values.light), Number(values.heavy)));
console.log(`${jobs.length} reports are in the queue "${values.queue}"`);
await queue.close();
connection.disconnect();
