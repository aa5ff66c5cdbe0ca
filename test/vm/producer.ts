/**
 * A producer that knows BullMQ and nothing of Kaon: adds a job to the queue `reports` of the Redis on this machine, waits
 * for its end and prints `returned ...` or `failed ...`. Usage: producer.mjs DATA, a JSON object.
 */
import { Queue, QueueEvents } from 'bullmq';

/** With what this machine does beside it, a second or two become many. */
const WAIT_MS = 120_000;

const connection = { host: '127.0.0.1', port: 6379 };
const queue = new Queue('reports', { connection });
const events = new QueueEvents('reports', { connection });
await events.waitUntilReady();
const data = JSON.parse(process.argv[2] ?? '{}') as object;
const job = await queue.add('report', data);
let end: string;
try {
  end = `returned ${JSON.stringify(await job.waitUntilFinished(events, WAIT_MS))}`;
} catch (error) {
  end = `failed ${String(error)}`;
}
process.stdout.write(`${end}\n`);
await Promise.all([queue.close(), events.close()]);
