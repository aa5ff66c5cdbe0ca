/** A way to a unix socket that can lose replies: what a client library that sends again has to live with. */
import { createServer, connect, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ReplyDroppingProxy {
  /** `unix:///...` */
  readonly url: string;
  /** The next reply is lost, and the connection that it was to come on is cut. */
  dropNextReply(): void;
  /** How many replies were lost. */
  dropped(): number;
  stop(): Promise<void>;
}

export async function startReplyDroppingProxy(socketPath: string): Promise<ReplyDroppingProxy> {
  const directory = mkdtempSync(join(tmpdir(), 'kaon-proxy-'));
  const path = join(directory, 'proxy.sock');
  const sockets = new Set<Socket>();
  let isArmed = false;
  let dropped = 0;
  const server = createServer((client) => {
    const upstream = connect(socketPath);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined); // The other side has gone; `close` follows.
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (data) => upstream.write(data));
    upstream.on('data', (data) => {
      if (!isArmed) {
        client.write(data);
        return;
      }
      isArmed = false;
      dropped += 1;
      client.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    url: `unix://${path}`,
    dropNextReply: () => {
      isArmed = true;
    },
    dropped: () => dropped,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
