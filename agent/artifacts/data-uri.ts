/** What a `data:` URI holds, RFC 2397: percent-encoded text, or base64. */
import { refused } from './failure.ts';

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/**
 * The type is of no interest. A `#` is part of the data, although a URL parser would take it for the begin of a fragment:
 * it is how a script begins.
 *
 * @throws KaonError `artifact-refused` if it cannot be read
 */
export function decodeDataUri(uri: string): Buffer {
  const comma = uri.indexOf(',');
  if (comma === -1) throw refused('a data: URI needs a comma before its data');
  const data = decodePercent(uri.slice(comma + 1));
  if (!/;\s*base64\s*$/i.test(uri.slice(0, comma))) return data;
  const text = data.toString('latin1').replace(/[\t\n\f\r ]/g, '');
  if (!BASE64.test(text) || text.replace(/=+$/, '').length % 4 === 1) {
    throw refused('its data is not base64');
  }
  return Buffer.from(text, 'base64');
}

/** Byte by byte, because what is encoded need not be UTF-8. */
function decodePercent(text: string): Buffer {
  const [first = '', ...rest] = text.split('%');
  const pieces = [Buffer.from(first)];
  for (const piece of rest) {
    if (!/^[0-9A-Fa-f]{2}/.test(piece)) {
      throw refused('its data has a % that is not followed by two hexadecimal digits');
    }
    pieces.push(Buffer.from(piece.slice(0, 2), 'hex'), Buffer.from(piece.slice(2)));
  }
  return Buffer.concat(pieces);
}
