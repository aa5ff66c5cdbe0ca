/**
 * One GET over http or https, with redirects: Node's own client and no proxies, no cookies, no cache, no decompression. What
 * is read is what the server sent, as curl(1) has it.
 */
import http from 'node:http';
import https from 'node:https';
import { refused } from './failure.ts';
import { REDIRECTS_MAX } from './limits.ts';

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** How to ask. */
export interface HttpOptions {
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Certificates (PEM) of authorities that count instead of Node's own. */
  readonly ca: string | undefined;
  readonly signal: AbortSignal;
  /** Further headers for an address on the way, `If-None-Match` for example. */
  readonly headersFor: (url: URL) => http.OutgoingHttpHeaders;
  /** An unencrypted answer to an encrypted question is good enough, because its digest is known. */
  readonly isDowngradeAllowed: boolean;
}

/** An answer whose body is still to be read, or to be destroyed. */
export interface HttpAnswer {
  readonly status: number;
  readonly response: http.IncomingMessage;
  /** Where the answer came from, after all redirects. */
  readonly url: URL;
  /** Something has come: the time without a byte begins anew. */
  readonly touch: () => void;
}

/**
 * @returns the first answer that is no redirect, whatever its status
 * @throws KaonError `artifact-refused` if redirects lead nowhere; `ETIMEDOUT`, `ECONNREFUSED`, ... and what else Node says
 */
export async function get(first: URL, options: HttpOptions): Promise<HttpAnswer> {
  let url = first;
  for (let count = 0; count <= REDIRECTS_MAX; count += 1) {
    const answer = await getOnce(url, options);
    if (!REDIRECTS.has(answer.status)) return answer;
    answer.response.destroy();
    url = followed(url, answer.response.headers.location, options);
  }
  throw refused(`more than ${String(REDIRECTS_MAX)} redirects`);
}

function followed(from: URL, location: string | undefined, options: HttpOptions): URL {
  if (location === undefined || !URL.canParse(location, from.href)) {
    throw refused('it is redirected without a valid address');
  }
  const to = new URL(location, from.href);
  if (to.protocol !== 'http:' && to.protocol !== 'https:') {
    throw refused(`it is redirected to ${to.protocol} which is not followed`);
  }
  if (from.protocol === 'https:' && to.protocol === 'http:' && !options.isDowngradeAllowed) {
    throw refused('it is redirected from https: to http: which is followed with a sha256 only');
  }
  to.hash = '';
  return to;
}

function getOnce(url: URL, options: HttpOptions): Promise<HttpAnswer> {
  const { connectTimeoutMs, idleTimeoutMs, ca, signal, headersFor } = options;
  const isTls = url.protocol === 'https:';
  return new Promise((resolve, reject) => {
    const request = (isTls ? https : http).request(url, {
      // One connection a question: nothing is left open that another task's download could meet.
      agent: false,
      signal,
      headers: { 'user-agent': 'kaon', accept: '*/*', ...headersFor(url) },
      ...(ca !== undefined && { ca }),
    });
    const watchdog = createWatchdog(connectTimeoutMs, 'no connection', (error) => {
      request.destroy(error);
    });
    request.once('socket', (socket) => {
      socket.once(isTls ? 'secureConnect' : 'connect', () => {
        watchdog.next(idleTimeoutMs, 'no data');
      });
    });
    request.on('error', (error) => {
      watchdog.stop();
      reject(error);
    });
    request.once('response', (response) => {
      watchdog.touch();
      // A request that is destroyed after its answer has begun forgets the reason.
      watchdog.onTimeout = (error) => response.destroy(error);
      response.once('close', watchdog.stop);
      resolve({ status: response.statusCode ?? 0, response, url, touch: watchdog.touch });
    });
    request.end();
  });
}

interface Watchdog {
  onTimeout: (error: Error) => void;
  next(ms: number, words: string): void;
  touch: () => void;
  stop: () => void;
}

function createWatchdog(
  firstMs: number,
  firstWords: string,
  onTimeout: (error: Error) => void,
): Watchdog {
  let [ms, words] = [firstMs, firstWords];
  const fire = (): void => {
    const message = `${words} for ${String(ms / 1000)} s`;
    watchdog.onTimeout(Object.assign(new Error(message), { code: 'TIMEOUT' }));
  };
  let timer = setTimeout(fire, ms);
  const watchdog: Watchdog = {
    onTimeout,
    next: (nextMs, nextWords) => {
      clearTimeout(timer);
      [ms, words] = [nextMs, nextWords];
      timer = setTimeout(fire, ms);
    },
    touch: () => {
      timer.refresh();
    },
    stop: () => {
      clearTimeout(timer);
    },
  };
  return watchdog;
}
