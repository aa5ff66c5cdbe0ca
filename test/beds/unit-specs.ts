/** Builders of unit specifications for tests: what does not matter has a default. */
import { createServer, type Socket } from 'node:net';
import type { UnitSpec } from '../../systemd/properties.ts';

/** A small unit `kaon-<stem>.service`; output is thrown away. */
export function unitSpec(
  stem: string,
  argv: readonly string[],
  more: Partial<UnitSpec> = {},
): UnitSpec {
  return {
    name: `kaon-${stem}.service`,
    slice: 'kaon-test.slice',
    description: `test ${stem}`,
    argv,
    workingDirectory: '/tmp',
    stdoutPath: '/dev/null',
    stderrPath: '/dev/null',
    environment: {},
    cpuMillis: 500,
    memoryMib: 64,
    tasksMax: 64,
    stopTimeoutMs: 2_000,
    journalFields: {},
    ...more,
  };
}

/** A process that holds as much memory as it is told, and gives it back to the kernel at once. */
export interface MemoryHolder {
  /** What its unit has to run. */
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Resolves when it holds that much, rejects if it has ended. */
  hold(mib: number): Promise<void>;
  close(): Promise<void>;
}

const HOLDER = `
use IO::Socket::UNIX;
my $peer = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "connect: $!";
open(my $zero, "<", "/dev/zero") or die "zero: $!";
my @held;
while (defined(my $wanted = <$peer>)) {
  chomp $wanted;
  pop @held while @held > $wanted;
  sysread($zero, $held[@held], 1 << 20) while @held < $wanted;
  syswrite($peer, "$wanted\\n");
}
`;

/** @param socketPath where it and the test meet; of a directory that both of them see */
export async function startMemoryHolder(socketPath: string): Promise<MemoryHolder> {
  const server = createServer();
  const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    argv: ['perl', '-e', HOLDER, socketPath],
    // Else glibc keeps what was freed for the next time.
    environment: { MALLOC_MMAP_THRESHOLD_: '65536', MALLOC_TRIM_THRESHOLD_: '65536' },
    hold: async (mib) => {
      const socket = await connected;
      const answer = new Promise<void>((resolve, reject) => {
        const ended = (): void => reject(new Error(`it ended before it held ${mib} MiB`));
        socket.once('close', ended);
        socket.once('data', () => {
          socket.off('close', ended);
          resolve();
        });
      });
      if (socket.destroyed) throw new Error(`it had ended before it was to hold ${mib} MiB`);
      socket.write(`${mib}\n`);
      await answer;
    },
    close: async () => {
      if (server.listening) server.close();
      // A process that never came has no connection to close.
      const isConnected = await Promise.race([connected.then(() => true), Promise.resolve(false)]);
      if (isConnected) (await connected).destroy();
    },
  };
}
