import { closeSync, openSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import {
  encodeEntry,
  entryWriter,
  fieldName,
  takeJournal,
  type WriteEntry,
} from '../../../io/journal.ts';
import { createLog } from '../../../io/log.ts';

test.each([
  ['taskId', 'KAON_TASK_ID'],
  ['memMib', 'KAON_MEM_MIB'],
  ['cpu2Idle', 'KAON_CPU2_IDLE'],
  ['log-level', 'KAON_LOG_LEVEL'],
  ['x'.repeat(80), `KAON_${'X'.repeat(59)}`],
])('%s is the field %s', (key, name) => {
  expect(fieldName(key)).toBe(name);
});

describe('an entry', () => {
  test('is a line for each field', () => {
    expect(
      encodeEntry([
        ['MESSAGE', 'a=b c'],
        ['PRIORITY', '6'],
      ]).toString(),
    ).toBe('MESSAGE=a=b c\nPRIORITY=6\n');
  });

  test('has a value of several lines with its length in bytes, so that nobody can add a field', () => {
    const bytes = encodeEntry([['KAON_ERROR', 'ü\n_PID=1']]);
    expect(bytes.subarray(0, 11).toString()).toBe('KAON_ERROR\n');
    expect(bytes.readBigUInt64LE(11)).toBe(9n);
    expect(bytes.subarray(19).toString()).toBe('ü\n_PID=1\n');
  });
});

describe('the connection to the journal', () => {
  test('is taken out of the environment, and is none if its number is that of something else', () => {
    const file = openSync('/dev/null', 'r');
    try {
      const environment = { KAON_JOURNAL_FD: String(file), PATH: '/bin' };
      expect(takeJournal(environment)).toBeUndefined();
      expect(environment).toEqual({ PATH: '/bin' });
    } finally {
      closeSync(file);
    }
  });

  test.each(['', 'x', '2', '9999'])('is none for the number %j', (text) => {
    expect(takeJournal({ KAON_JOURNAL_FD: text })).toBeUndefined();
  });
});

describe('a journal', () => {
  /** Each write meets the next of these errors, or none. */
  const writes = (...codes: (string | undefined)[]): { took: boolean[]; written: string[] } => {
    const written: string[] = [];
    const write = entryWriter((bytes) => {
      const code = codes.shift();
      if (code !== undefined) throw Object.assign(new Error(code), { code });
      written.push(bytes.toString());
    });
    const entry = (name: string): boolean =>
      write([
        ['MESSAGE', name],
        ['SYSLOG_IDENTIFIER', 'kaon-agent'],
      ]);
    return { took: ['a', 'b', 'c'].map(entry), written };
  };
  const entry = (name: string): string => `MESSAGE=${name}\nSYSLOG_IDENTIFIER=kaon-agent\n`;
  const lost = (count: number): string =>
    `MESSAGE=journal.entries-lost count=${String(count)}\nPRIORITY=4\n` +
    'SYSLOG_IDENTIFIER=kaon-agent\nKAON_EVENT=journal.entries-lost\n';

  test('that is away leaves an entry to somebody else', () => {
    expect(writes('ECONNREFUSED', 'EMSGSIZE', 'ENOTCONN')).toEqual({
      took: [false, false, false],
      written: [],
    });
  });

  test('that does not keep up loses entries, and is told how many when it does', () => {
    expect(writes('EAGAIN', 'ENOBUFS')).toEqual({
      took: [true, true, true],
      written: [entry('c'), lost(2)],
    });
    expect(writes('EAGAIN', undefined, 'EAGAIN')).toEqual({
      took: [true, true, true],
      written: [entry('b'), entry('c'), lost(1)],
    });
  });
});

describe('a log with a journal', () => {
  const log = (writeEntry: WriteEntry): { lines: string[]; log: ReturnType<typeof createLog> } => {
    const lines: string[] = [];
    const write = (line: string): void => void lines.push(line);
    return {
      lines,
      log: createLog({ journal: true, identifier: 'kaon-agent', write, writeEntry }),
    };
  };

  test('writes the line as MESSAGE, and each field by its name', () => {
    const entries: unknown[] = [];
    const { log: journal, lines } = log((fields) => entries.push(Object.fromEntries(fields)) > 0);
    journal.identify({ agentId: 'a1' });
    journal.warn('task.ended', {
      taskId: 't 1',
      executorId: undefined,
      limits: { memMib: 64 },
      error: new Error('no\nroute'),
    });
    expect(entries).toEqual([
      {
        MESSAGE: 'task.ended taskId="t 1" limits="{\\"memMib\\":64}" error="no\\nroute"',
        PRIORITY: '4',
        SYSLOG_IDENTIFIER: 'kaon-agent',
        KAON_EVENT: 'task.ended',
        KAON_AGENT_ID: 'a1',
        KAON_TASK_ID: 't 1',
        KAON_LIMITS: '{"memMib":64}',
        KAON_ERROR: 'no\nroute',
      },
    ]);
    expect(lines).toEqual([]);
  });

  test('writes a line where the journal does not take the entry', () => {
    const { log: journal, lines } = log(() => false);
    journal.info('task.started', { taskId: 't1' });
    expect(lines).toEqual(['<6>task.started taskId=t1\n']);
  });

  test('writes from another level on when it is told to', () => {
    const { log: journal, lines } = log(() => false);
    journal.debug('one');
    journal.setLevel('debug');
    journal.debug('two');
    journal.setLevel('error');
    journal.warn('three');
    expect(lines).toEqual(['<7>two\n']);
  });
});
