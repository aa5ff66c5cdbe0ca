import { describe, expect, test } from '@jest/globals';
import { readTaskOutput } from '../../../framework/output-reader.ts';
import type { OutputKind, ReadTaskOutputOptions } from '../../../framework/output-reader.ts';
import type { OutputChunk, Store } from '../../../io/store.ts';
import { decodeEntry } from '../../../protocol/codec.ts';
import type { AgentId, FrameworkId, TaskId } from '../../../protocol/ids.ts';

const chunk = (offset: number, text: string, kind: OutputKind = 'stdout'): OutputChunk => ({
  kind,
  offset,
  bytes: Buffer.from(text),
});
const END: OutputChunk = { kind: 'end', error: '' };

/** An agent that answers with these chunks, one a read, and then with silence. */
function answering(chunks: readonly OutputChunk[]): {
  store: Store;
  requests: string[];
  removed: string[];
} {
  const requests: string[] = [];
  const removed: string[] = [];
  let next = 0;
  const store = {
    requestAgent: (_agentId: AgentId, messages: string) =>
      Promise.resolve(void requests.push(messages)),
    readOutput: () => {
      const one = chunks[next];
      next += 1;
      if (one) return Promise.resolve([{ id: `${String(next)}-0`, chunk: one }]);
      return new Promise<never>(() => undefined);
    },
    endOutput: (readId: string) => Promise.resolve(void removed.push(readId)),
  };
  return { store: store as unknown as Store, requests, removed };
}

interface Received {
  stdout: string;
  stderr: string;
  gaps: [OutputKind, number][];
  error: string;
}

async function read(
  chunks: readonly OutputChunk[],
  more: Partial<ReadTaskOutputOptions> = {},
): Promise<Received> {
  const received: Received = { stdout: '', stderr: '', gaps: [], error: '' };
  const { store } = answering(chunks);
  const { error } = await readTaskOutput({
    store,
    agentId: 'a1' as AgentId,
    frameworkId: 'f1' as FrameworkId,
    taskId: 't1' as TaskId,
    follow: true,
    stdout: true,
    stderr: true,
    onChunk: (kind, bytes) => {
      received[kind] += bytes.toString();
    },
    onGap: (kind, missing) => received.gaps.push([kind, missing]),
    ...more,
  });
  return { ...received, error };
}

describe('reading the output of a task', () => {
  test('gives both streams their bytes in order', async () => {
    const chunks = [
      chunk(0, 'ab'),
      chunk(0, 'X', 'stderr'),
      chunk(2, 'cd'),
      chunk(1, 'Y', 'stderr'),
      END,
    ];
    expect(await read(chunks)).toEqual({ stdout: 'abcd', stderr: 'XY', gaps: [], error: '' });
  });

  test('drops what an agent sends again from the beginning after its restart', async () => {
    const chunks = [chunk(0, 'abcd'), chunk(0, 'ab'), chunk(2, 'cdef'), chunk(6, 'g'), END];
    expect(await read(chunks)).toMatchObject({ stdout: 'abcdefg', gaps: [] });
  });

  test('tells of bytes that never came', async () => {
    expect(await read([chunk(0, 'ab'), chunk(5, 'f'), END])).toMatchObject({
      stdout: 'abf',
      gaps: [['stdout', 3]],
    });
    expect(await read([chunk(5, 'f'), END])).toMatchObject({ gaps: [['stdout', 5]] });
  });

  test('takes the beginning of a tail for where it is, and notices holes after it', async () => {
    expect(
      await read([chunk(100, 'yz'), chunk(102, '!'), chunk(105, '?'), END], { lastBytes: 2 }),
    ).toMatchObject({ stdout: 'yz!?', gaps: [['stdout', 2]] });
  });

  test('says why the agent could not go on', async () => {
    expect(await read([chunk(0, 'a'), { kind: 'end', error: 'no sandbox' }])).toMatchObject({
      stdout: 'a',
      error: 'no sandbox',
    });
  });

  test('ends when it is told to, although nothing comes', async () => {
    const stop = new AbortController();
    const reading = read([chunk(0, 'a')], { signal: stop.signal, onChunk: () => stop.abort() });
    expect(await reading).toMatchObject({ error: '' });
    expect(await read([], { signal: AbortSignal.abort() })).toMatchObject({ stdout: '' });
  });

  test('asks for what was asked, and takes the answer away at the end', async () => {
    const { store, requests, removed } = answering([END]);
    await readTaskOutput({
      store,
      agentId: 'a1' as AgentId,
      frameworkId: 'f1' as FrameworkId,
      taskId: 't1' as TaskId,
      follow: false,
      stdout: false,
      stderr: true,
      lastBytes: 10,
      onChunk: () => undefined,
    });
    const [request] = decodeEntry(requests[0] ?? '');
    expect(request).toMatchObject({
      ok: true,
      value: {
        type: 'ReadOutput',
        taskId: 't1',
        stdout: false,
        stderr: true,
        lastBytes: 10,
        follow: false,
      },
    });
    expect(removed).toEqual([(request as { value: { readId: string } }).value.readId]);
  });

  test('waits for a slow sink before it reads on', async () => {
    let isOpen = false;
    const seen: string[] = [];
    await read([chunk(0, 'a'), chunk(1, 'b'), END], {
      onChunk: async (_kind, bytes) => {
        expect(isOpen).toBe(false);
        isOpen = true;
        await Promise.resolve();
        seen.push(bytes.toString());
        isOpen = false;
      },
    });
    expect(seen).toEqual(['a', 'b']);
  });
});
