/** What of the API goes into the log: each act of an operator, and refusals of tokens, of which a flood is one line. */
import type { IncomingMessage } from 'node:http';
import type { Log } from '../../io/log.ts';
import type { Answer } from './answer.ts';

/** At most one line of refusals in this time, milliseconds. */
const REFUSALS_MS = 10_000;

/** @returns a function to call with each answer and the name of who has asked, if it is known */
export function accessLog(
  log: Log,
  monotonicMs: () => number,
): (request: IncomingMessage, answer: Answer, name?: string) => void {
  let refusedAtMs = -Infinity;
  let untold = 0;
  return ({ method, url = '', socket }, { status, body }, name) => {
    const path = url.split('?')[0]?.slice(0, 200);
    const fields = { method, path, status, name, from: socket.remoteAddress };
    if (status === 401 || status === 403) {
      if (monotonicMs() - refusedAtMs < REFUSALS_MS) {
        untold += 1;
        return;
      }
      const code = (body as { error?: { code?: string } }).error?.code;
      log.warn('api.refused', { ...fields, code, ...(untold > 0 && { more: untold }) });
      refusedAtMs = monotonicMs();
      untold = 0;
    } else if (method === 'POST' && status === 200) {
      log.info('api.act', fields);
    }
  };
}
