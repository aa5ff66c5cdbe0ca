/** What `kaon run` shows of a task: a real Redis, and an agent that answers when and what the test says. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { OutputOfTasks } from '../../cli/commands/run-output.ts';
import { silentLog } from '../../io/log.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import type { StreamId } from '../../io/store.ts';
import { START } from '../../io/store.ts';
import { decodeEntry } from '../../protocol/codec.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import { bedReason } from '../beds/available.ts';
import { startRedisBed, type RedisBed } from '../beds/redis.ts';
import { agentIdOf, frameworkIdOf, taskIdOf, taskStatus } from '../support/builders.ts';

const reason = bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const AGENT = agentIdOf('a1');
const TASK = taskIdOf('t1');
const NOT_THERE = 'no output of task t1 here: its sandbox has been removed, or it never ran';

suite(`the output of kaon run${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: RedisBed;
  let store: RedisStore;
  let agent: RedisStore;
  let cursor: StreamId;
  let said: string[];
  let shown: string;
  let output: OutputOfTasks;

  const open = (): Promise<RedisStore> =>
    openRedisStore({ url: bed.url, cluster: 'test', log: silentLog, name: 'test' });

  beforeEach(async () => {
    bed = await startRedisBed();
    [store, agent] = await Promise.all([open(), open()]);
    cursor = START;
    said = [];
    shown = '';
    const take = (data: Buffer, done: () => void): boolean => {
      shown += data.toString();
      done();
      return true;
    };
    jest.spyOn(process.stdout, 'write').mockImplementation(take as typeof process.stdout.write);
    output = new OutputOfTasks({
      store,
      openStore: open,
      frameworkId: frameworkIdOf('f1'),
      taskIds: [TASK],
      say: (text) => said.push(text),
    });
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await Promise.all([store.close(), agent.close()]);
    await bed.stop();
  });

  /** The reader of the next request. */
  const asked = async (): Promise<SessionId> => {
    for (;;) {
      const [entry] = await agent.readAgentRequests(AGENT, cursor, 1000);
      if (!entry) continue;
      cursor = entry.id;
      const [message] = decodeEntry(entry.messages);
      if (!message?.ok || message.value.type !== 'ReadOutput') throw new Error(entry.messages);
      return message.value.readId;
    }
  };
  const refuse = async (): Promise<void> => {
    await agent.writeOutput(await asked(), [{ kind: 'end', error: NOT_THERE }]);
  };
  const answer = async (words: string): Promise<void> => {
    await agent.writeOutput(await asked(), [
      { kind: 'stdout', offset: 0, bytes: Buffer.from(words) },
      { kind: 'end', error: '' },
    ]);
  };
  const end = (stdoutBytes: number): TaskStatus => ({
    ...taskStatus('f1', 't1', 'TASK_FINISHED'),
    certificate: { stdoutBytes, stderrBytes: 0 },
  });

  test('of a task that was longer on its way than its agent waits for it is asked for again when it runs', async () => {
    output.follow(TASK, AGENT);
    await refuse();
    output.placed(TASK);
    await answer('late');
    output.ended(end(4));
    await output.complete();
    expect({ shown, said }).toEqual({ shown: 'late', said: [] });
  });

  test('and when nothing but its end has been heard of it', async () => {
    output.follow(TASK, AGENT);
    await refuse();
    output.ended(end(4));
    await answer('late');
    await output.complete();
    expect({ shown, said }).toEqual({ shown: 'late', said: [] });
  });

  test('that is gone is said to be gone', async () => {
    output.follow(TASK, AGENT);
    await refuse();
    output.placed(TASK);
    await refuse();
    output.ended(end(4));
    await output.complete();
    expect({ shown, said }).toEqual({ shown: '', said: [NOT_THERE] });
  });

  test('of a task that is launched again elsewhere is that of there', async () => {
    output.follow(TASK, AGENT);
    await asked();
    cursor = START;
    output.follow(TASK, agentIdOf('a2'));
    const [entry] = await agent.readAgentRequests(agentIdOf('a2'), START, 1000);
    const [message] = decodeEntry(entry?.messages ?? '');
    if (!message?.ok || message.value.type !== 'ReadOutput') throw new Error('not asked');
    await agent.writeOutput(message.value.readId, [
      { kind: 'stdout', offset: 0, bytes: Buffer.from('there') },
      { kind: 'end', error: '' },
    ]);
    output.ended(end(5));
    await output.complete();
    expect({ shown, said }).toEqual({ shown: 'there', said: [] });
  });
});
