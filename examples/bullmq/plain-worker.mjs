// Before Kaon: one host with one BullMQ worker, ten reports at a time, each in a child process of its own (BullMQ's sandbox).
// What the host has is all that there is, and nobody counts it: ten is right for light reports, and too many for heavy ones.
//
// Usage: node plain-worker.mjs [--concurrency 10] [--queue reports] [--redis redis://127.0.0.1:6379]

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';

const { values } = parseArgs({
  options: {
    concurrency: { type: 'string', default: '10' },
    queue: { type: 'string', default: 'reports' },
    redis: { type: 'string', default: 'redis://127.0.0.1:6379' },
  },
});

const connection = new Redis(values.redis, { maxRetriesPerRequest: null });
const processor = fileURLToPath(new URL('report.mjs', import.meta.url));
const concurrency = Number(values.concurrency);
const worker = new Worker(values.queue, processor, { connection, concurrency });

worker.on('completed', (job) => console.log(`${job.name} ${job.id} is done`));
worker.on('failed', (job, error) =>
  console.log(`${job?.name} ${job?.id} failed: ${error.message}`),
);
worker.on('error', (error) => console.error(error.message));

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await worker.close();
    connection.disconnect();
  });
}
