/** Reads the body of a request: JSON, of a size that cannot hurt, with the fields that are known and no others. */
import type { IncomingMessage } from 'node:http';
import type { z } from 'zod';
import { ApiError } from './answer.ts';

/** Largest body, bytes. */
export const BODY_MAX_BYTES = 64 * 1024;

/**
 * @param schema strict; an empty body is as `{}`
 * @throws ApiError 413, 400
 */
export async function readBody<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const text = await readText(request);
  let value: unknown;
  try {
    value = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    throw new ApiError(400, 'bad-json', { message: 'the body is not JSON' });
  }
  // An own property of that name is harmless here, and nobody has a good reason to send it.
  const isStrange =
    typeof value === 'object' && value !== null && Object.hasOwn(value, '__proto__');
  const parsed = schema.safeParse(value);
  if (parsed.success && !isStrange) return parsed.data;
  const issue = parsed.error?.issues[0];
  const where = issue && issue.path.length > 0 ? `${issue.path.map(String).join('.')}: ` : '';
  throw new ApiError(400, 'bad-body', {
    message: `the body is not as it should be: ${where}${issue?.message ?? 'unknown field'}`.slice(
      0,
      300,
    ),
  });
}

async function readText(request: IncomingMessage): Promise<string> {
  const tooLarge = new ApiError(413, 'body-too-large', {
    message: `the body is larger than ${String(BODY_MAX_BYTES)} bytes`,
    headers: { Connection: 'close' },
  });
  if (Number(request.headers['content-length'] ?? 0) > BODY_MAX_BYTES) throw tooLarge;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_MAX_BYTES) throw tooLarge;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
