/**
 * The helper that puts artifacts into a sandbox: a process of its own with the rights of the task's user, built to
 * `dist/artifact-fetcher.js`. It reads one `HelperRequest` from its standard input, writes one `HelperAnswer` to its standard
 * output, and ends. Its input ends before that only if the agent did.
 */
import { createInterface } from 'node:readline';
import { putArtifacts } from './put.ts';
import type { HelperRequest } from './request.ts';

// Permissions are chosen here, whatever the agent was started with.
process.umask(0);

const input = createInterface({ input: process.stdin });
let request: HelperRequest | undefined;

input.once('line', (line) => {
  request = JSON.parse(line) as HelperRequest;
  void putArtifacts(request).then((answer) => {
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    process.exit();
  });
});
input.once('close', () => {
  // Nobody waits for the answer, and the next agent fetches again.
  void abandon();
});

async function abandon(): Promise<void> {
  if (request) await putArtifacts({ ...request, artifacts: [] });
  process.exit(1);
}
