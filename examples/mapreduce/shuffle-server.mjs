/**
 * What Jetty was in a TaskTracker: serves the outputs of this node's map tasks to reduce tasks, wherever those run. The
 * address has a secret in it, and only what has been added is there.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { open } from 'node:fs/promises';
import { lookup } from 'node:dns/promises';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

const SECRET_BYTES = 24;

/**
 * @param host name or address of this node, by which the other nodes know it; only there is anything listened to
 * @returns `{url, add(name, directory), close()}`; a partition is `URL/NAME/NUMBER`
 * @throws Error of the operating system, e.g. if the address is not of this node
 */
export async function startShuffleServer(host) {
  const secret = randomBytes(SECRET_BYTES).toString('hex');
  const directories = new Map();
  const server = createServer((request, response) => {
    serve(request.url ?? '', { secret, directories }, response).catch((error) => {
      // The other side has gone, or the file has: what it got is shorter than was said, so it will know.
      console.error(`an output could not be served: ${error.message}`);
      response.destroy();
    });
  });
  const { address } = await lookup(host);
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, address, resolve);
  });
  const name = isIPv6(address) ? `[${address}]` : address;
  return {
    url: `http://${name}:${server.address().port}/${secret}`,
    add: (output, directory) => directories.set(output, directory),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function serve(url, { secret, directories }, response) {
  const [, said = '', output = '', partition = ''] = url.split('/');
  const directory = directories.get(output);
  if (!isSecret(said, secret) || directory === undefined || !/^\d{1,6}$/.test(partition)) {
    response.writeHead(404).end();
    return;
  }
  const file = await open(join(directory, partition));
  try {
    const { size } = await file.stat();
    response.writeHead(200, { 'content-length': size });
    await pipeline(file.createReadStream({ autoClose: false }), response);
  } finally {
    await file.close();
  }
}

function isSecret(said, secret) {
  const [a, b] = [Buffer.from(said), Buffer.from(secret)];
  return a.length === b.length && timingSafeEqual(a, b);
}
