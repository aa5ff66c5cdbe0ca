/** What the API answers: JSON, and nothing that a browser would keep or a stranger could learn from. */
import type { ServerResponse } from 'node:http';

/** An answer, before it is written. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A refusal or failure: thrown anywhere in a request, written as `{"error": {"code", "message", "hint"}}`. */
export class ApiError extends Error {
  readonly answer: Answer;

  constructor(
    status: number,
    code: string,
    words: {
      readonly message: string;
      readonly hint?: string;
      readonly headers?: Answer['headers'];
    },
  ) {
    super(words.message);
    this.name = 'ApiError';
    const { message, hint, headers } = words;
    const error = { code, message, ...(hint !== undefined && { hint }) };
    this.answer = { status, body: { error }, ...(headers && { headers }) };
  }
}

/** @returns 200 with that body */
export function ok(body: unknown): Answer {
  return { status: 200, body };
}

/** Of every answer. No CORS headers, so a page from elsewhere reads none of it. */
const HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': 'application/json; charset=utf-8',
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
};

/** Writes the answer whole; of HEAD only what its headers say. */
export function writeAnswer(
  response: ServerResponse,
  { status, body, headers }: Answer,
  isHead: boolean,
): void {
  const text = `${JSON.stringify(body, null, 2)}\n`;
  response.writeHead(status, {
    ...HEADERS,
    ...headers,
    'Content-Length': String(Buffer.byteLength(text)),
  });
  response.end(isHead ? undefined : text);
}

/** The same for a request that could not even be read: status line, headers and body as one text. */
export function rawAnswer(status: number, reason: string, code: string): string {
  const body = `${JSON.stringify({ error: { code, message: reason.toLowerCase() } })}\n`;
  const lines = Object.entries({
    ...HEADERS,
    Connection: 'close',
    'Content-Length': String(Buffer.byteLength(body)),
  }).map(([name, value]) => `${name}: ${value}`);
  return [`HTTP/1.1 ${String(status)} ${reason}`, ...lines, '', body].join('\r\n');
}
