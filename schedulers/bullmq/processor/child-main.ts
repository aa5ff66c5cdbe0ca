/** A process that runs the jobs of one processor file, one after the other. Started by the executor, ends with it. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { FromChild, ToChild } from './child-messages.ts';
import { ChildRunner, type Processor } from './child-runner.ts';
import { toProcessorError } from './json.ts';

/** Its job is over with these, or the process: what it wrote must be with the executor before them. */
const LAST_TYPES: readonly FromChild['type'][] = ['done', 'import-failed'];

async function send(message: FromChild): Promise<void> {
  if (LAST_TYPES.includes(message.type)) {
    await Promise.all([written(process.stdout), written(process.stderr)]);
  }
  await new Promise<void>((resolvePromise) => {
    // Of an executor that is gone nobody waits for the rest; `disconnect` follows.
    process.send?.(message, undefined, undefined, () => {
      resolvePromise();
    });
  });
}

/** Resolves when the pipe has taken everything: one that was full when it was written to keeps the rest in this process. */
async function written(stream: NodeJS.WriteStream): Promise<void> {
  if (!stream.writable || stream.writableLength === 0) return;
  await new Promise<void>((resolvePromise) => {
    stream.write('', () => {
      resolvePromise();
    });
  });
}

/** As BullMQ loads it: also a CommonJS module that was compiled from an ES module. */
async function load(file: string): Promise<Processor> {
  const module = (await import(pathToFileURL(resolve(file)).href)) as { default?: unknown };
  const exported = module.default;
  const inner = (exported as { default?: unknown } | null | undefined)?.default;
  const processor = inner ?? exported;
  if (typeof processor === 'function') return processor as Processor;
  throw new Error(`no function is exported in processor file ${file}`);
}

/** The executor decides when a job has to end; systemd sends these to all processes of a unit. */
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => {
  process.exit(0);
});

const [file = ''] = process.argv.slice(2);
try {
  const processor = await load(file);
  const runner = new ChildRunner({
    processor,
    send,
    memoryBytes: () => process.memoryUsage.rss(),
    environment: process.env,
  });
  // Rejections that nobody handles come here, too. After one of either nobody knows what state this process is in.
  process.on('uncaughtException', (error: unknown) => {
    process.stderr.write(`${toProcessorError(error).stack ?? String(error)}\n`);
    void runner.crashed(error).then(() => process.exit(1));
  });
  process.on('message', (message) => {
    runner.receive(message as ToChild);
  });
  await send({ type: 'ready' });
} catch (error) {
  await send({ type: 'import-failed', error: toProcessorError(error) });
  process.exit(1);
}
