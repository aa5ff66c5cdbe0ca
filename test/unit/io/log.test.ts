import { describe, expect, test } from '@jest/globals';
import { createLog, type LogFields, type LogLevel } from '../../../io/log.ts';

/** What one call writes, as journald gets it. */
function written(event: string, fields: LogFields = {}, level: LogLevel = 'info'): string {
  let text = '';
  const log = createLog({ level: 'debug', journal: true, write: (line) => (text += line) });
  log[level](event, fields);
  return text;
}

describe('a line', () => {
  test('has the event, and its fields in their order', () => {
    expect(written('offer.made', { offerId: 'o1.1', cpuMillis: 500, tasks: 0 })).toBe(
      '<6>offer.made offerId=o1.1 cpuMillis=500 tasks=0\n',
    );
  });

  test.each<[LogLevel, string]>([
    ['debug', '<7>x\n'],
    ['info', '<6>x\n'],
    ['warn', '<4>x\n'],
    ['error', '<3>x\n'],
  ])('of level %s begins with its priority for journald', (level, line) => {
    expect(written('x', {}, level)).toBe(line);
  });

  test('leaves out what is undefined, and says what is empty', () => {
    expect(written('x', { a: undefined, b: null, c: '', d: [] })).toBe('<6>x b=null c="" d=[]\n');
  });

  test('cannot be made to look like two, or like another field', () => {
    expect(written('x', { name: 'a\n<3>fake b=1 \u001b[31m', eq: 'a=b' })).toBe(
      '<6>x name="a\\n<3>fake b=1 \\u001b[31m" eq="a=b"\n',
    );
  });

  test('shows an error by its message', () => {
    expect(written('x', { error: new Error('no route') })).toBe('<6>x error="no route"\n');
  });

  test('for people begins with the time and the level', () => {
    let text = '';
    createLog({ write: (line) => (text += line) }).warn('x');
    expect(text).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warn {2}x\n$/);
  });
});

test('what is less severe than asked for is not written', () => {
  const lines: string[] = [];
  const log = createLog({ level: 'warn', journal: true, write: (line) => lines.push(line) });
  log.debug('a');
  log.info('b');
  log.warn('c');
  log.error('d');
  expect(lines).toEqual(['<4>c\n', '<3>d\n']);
});
