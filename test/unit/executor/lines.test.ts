/** From bytes of the agent to messages, and the pauses between connections. */
import { describe, expect, test } from '@jest/globals';
import { readLine } from '../../../executor/core/agent-message.ts';
import { LineSplitter } from '../../../executor/core/line-splitter.ts';
import { reconnectPauseMs } from '../../../executor/core/reconnect.ts';
import { AgentToExecutor } from '../../../protocol/executor-messages.ts';
import { killTask, launchedTask, registered, runTask } from '../../support/fake-agent-socket.ts';

describe('a splitter', () => {
  test.each<[string, string[], string[][]]>([
    ['a line', ['a\n'], [['a']]],
    ['lines in one piece', ['a\nb\n\nc\n'], [['a', 'b', '', 'c']]],
    ['a line in pieces', ['a', 'b', 'c\nd', '\n'], [[], [], ['abc'], ['d']]],
    ['an end that comes alone', ['ab', '\n'], [[], ['ab']]],
    ['what has no end yet', ['ab'], [[]]],
  ])('cuts %s', (_what, pieces, lines) => {
    const splitter = new LineSplitter();
    expect(pieces.map((piece) => splitter.push(piece))).toEqual(lines);
  });

  test('gives up a line that does not end', () => {
    const splitter = new LineSplitter();
    const piece = 'x'.repeat(8 * 1024 * 1024);
    const results = Array.from({ length: 9 }, () => splitter.push(piece));
    expect(results.indexOf(undefined)).toBe(8);
  });
});

describe('a line', () => {
  const launched = launchedTask('t1');
  const messages: AgentToExecutor[] = [
    registered(),
    runTask(launched),
    killTask(launched),
    { type: 'RunTaskGroup', groupId: 'g1' as never, tasks: [launched] },
    { type: 'ShutdownExecutor', gracePeriodMs: 0 },
    { type: 'FrameworkToExecutor', data: '' },
    { type: 'ExecutorError', code: 'x', message: 'y' },
  ];

  test.each(messages.map((message) => [message.type, message] as const))(
    'with %s is that message',
    (_type, message) => {
      expect(readLine(JSON.stringify(message))).toEqual({ ok: true, message });
    },
  );

  test.each([
    ['no JSON', 'RunTask', 'no JSON: RunTask'],
    ['no object', '"RunTask"', 'no object with a type: "RunTask"'],
    ['no type', '{"type":7}', 'no object with a type: {"type":7}'],
    ['a type of another time', '{"type":"Dance"}', 'unknown type Dance'],
    ['a type of every object', '{"type":"toString"}', 'unknown type toString'],
    ['no task', '{"type":"RunTask","launchId":"l"}', 'RunTask lacks what it needs'],
    ['no tasks', '{"type":"RunTaskGroup","tasks":[1]}', 'RunTaskGroup lacks what it needs'],
    ['no agent', '{"type":"ExecutorReregistered"}', 'ExecutorReregistered lacks what it needs'],
  ])('with %s is told apart', (_what, line, problem) => {
    const read = readLine(line);
    expect(read.ok ? '' : read.problem).toContain(problem);
  });

  test('with any type of the protocol is known', () => {
    for (const option of AgentToExecutor.options) {
      const read = readLine(JSON.stringify({ type: option.shape.type.value }));
      expect(read.ok ? '' : read.problem).not.toContain('unknown type');
    }
  });
});

describe('the pause before a connection', () => {
  test.each([
    [1, 10, 20],
    [2, 20, 40],
    [6, 320, 640],
    [7, 500, 1000],
    [5000, 500, 1000],
  ])('after %d failures is from %d to %d ms', (failures, shortestMs, longestMs) => {
    expect(reconnectPauseMs(failures, 0)).toBe(shortestMs);
    expect(reconnectPauseMs(failures, 0.999_999)).toBe(longestMs);
  });
});
