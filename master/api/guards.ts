/**
 * What is refused before anything is looked up: requests that were meant for another server, that a page of somebody else
 * makes a browser send, or that want something else than JSON. Pure.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { ApiError } from './answer.ts';

/** Whether the server answers to a host name, besides `localhost` and addresses. */
export type IsOwnName = (name: string) => boolean;

/**
 * A page whose name is made to lead here (DNS rebinding) sends its own name: so only names count that are ours. An address
 * cannot be made to lead anywhere else.
 *
 * @throws ApiError 421, or 400 without a name
 */
export function checkHost({ host }: IncomingHttpHeaders, isOwnName: IsOwnName): void {
  const [, bracketed, plain = ''] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::\d{1,5})?$/.exec(host ?? '') ?? [];
  const name = bracketed ?? plain.toLowerCase().replace(/\.$/, '');
  if (name === '') {
    throw new ApiError(400, 'bad-host', {
      message: 'the request has no Host, or none that can be read',
    });
  }
  if (isIP(name) !== 0 || name === 'localhost' || isOwnName(name)) return;
  throw new ApiError(421, 'wrong-host', {
    message: 'this server does not answer to the name in Host',
    hint: 'use its address, localhost, or a name in its certificate',
  });
}

/**
 * Nothing is done for a browser: a page of somebody else can make it send a request, with whatever the browser is trusted
 * with, and the network of its user.
 *
 * @throws ApiError 403
 */
export function checkNoBrowser(headers: IncomingHttpHeaders): void {
  const site = headers['sec-fetch-site'];
  if (headers.origin === undefined && (site === undefined || site === 'none')) return;
  throw new ApiError(403, 'browser-refused', {
    message: 'requests that change something are not taken from web pages',
  });
}

/** @throws ApiError 415 unless a body is said to be JSON, which a form of a page cannot do */
export function checkContentType(headers: IncomingHttpHeaders): void {
  const length = headers['content-length'] ?? '0';
  if (length === '0' && headers['transfer-encoding'] === undefined) return;
  if (/^application\/json\s*(?:;|$)/i.test(headers['content-type'] ?? '')) return;
  throw new ApiError(415, 'not-json', {
    message: 'a body has to be JSON',
    hint: 'send Content-Type: application/json',
  });
}

/** @throws ApiError 406 if the client takes no JSON */
export function checkAccept({ accept }: IncomingHttpHeaders): void {
  if (accept === undefined || accept.trim() === '') return;
  const takesJson = accept.split(',').some((range) => {
    const [type = '', ...settings] = range.split(';').map((part) => part.trim().toLowerCase());
    const isRefused = settings.some((setting) => /^q=0(?:\.0*)?$/.test(setting));
    return !isRefused && ['application/json', 'application/*', '*/*'].includes(type);
  });
  if (takesJson) return;
  throw new ApiError(406, 'only-json', { message: 'all answers are application/json' });
}
