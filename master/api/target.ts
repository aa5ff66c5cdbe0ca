/** From the target of a request to the parts of its path and its parameters. Pure; whatever is odd is refused. */
import { ApiError } from './answer.ts';

/** A target taken apart and decoded. */
export interface Target {
  readonly parts: readonly string[];
  /** No name twice. */
  readonly query: ReadonlyMap<string, string>;
}

/** Longest parameter, characters. */
const VALUE_MAX_CHARS = 1000;

/**
 * @param url as it stands in the request line
 * @throws ApiError 400 for what is not a path, cannot be decoded, or would mean another path when it is
 */
export function parseTarget(url: string): Target {
  if (!url.startsWith('/') || url.includes('#')) {
    throw bad('the target of the request is not a path');
  }
  const at = url.indexOf('?');
  const path = at < 0 ? url : url.slice(0, at);
  const parts = path.slice(1).split('/').map(decodePart);
  return { parts, query: parseQuery(at < 0 ? '' : url.slice(at + 1)) };
}

function decodePart(part: string): string {
  const text = decode(part);
  if (text === '.' || text === '..' || /[/\\\p{Cc}]/u.test(text)) {
    throw bad('a part of the path is not one');
  }
  return text;
}

function parseQuery(text: string): Map<string, string> {
  const query = new Map<string, string>();
  for (const pair of text === '' ? [] : text.split('&')) {
    const [name = '', value = ''] = splitOnce(pair).map((one) => decode(one.replaceAll('+', ' ')));
    if (query.has(name)) throw bad(`parameter ${JSON.stringify(name.slice(0, 50))} is there twice`);
    if (value.length > VALUE_MAX_CHARS) throw bad('a parameter is too long');
    query.set(name, value);
  }
  return query;
}

function splitOnce(pair: string): [string, string] {
  const at = pair.indexOf('=');
  return at < 0 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)];
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw bad('the target of the request has a percent sign without two digits, or is not UTF-8');
  }
}

function bad(message: string): ApiError {
  return new ApiError(400, 'bad-request', { message });
}
