/**
 * Loaded in front of a daemon (`node --import`): its wall clock is off by the milliseconds that a file says, from the
 * moment at which the file says so. This machine's clock is not touched, and the monotonic clock goes on, as it does when
 * somebody sets the time.
 */
import { readFileSync } from 'node:fs';

const path = process.env['CHAOS_CLOCK'];
const RealDate = Date;
let offsetMs = 0;

function read(): void {
  try {
    offsetMs = Number(readFileSync(path ?? '', 'utf8')) || 0;
  } catch {
    offsetMs = 0; // No file, no step.
  }
}

if (path !== undefined) {
  read();
  setInterval(read, 100).unref();
  const now = (): number => RealDate.now() + offsetMs;
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args: unknown[], newTarget) =>
      Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as object,
    apply: () => new RealDate(now()).toString(),
    get: (target, property): unknown =>
      property === 'now' ? now : Reflect.get(target, property, target),
  });
}
