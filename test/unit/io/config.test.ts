import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import {
  describeProblem,
  parseConfigText,
  readConfigFile,
  type SettingSpec,
} from '../../../io/config.ts';
import { linesOfKeys } from '../../../io/config-lines.ts';
import { closest } from '../../../io/config-words.ts';

const SETTINGS: readonly SettingSpec[] = [
  { key: 'redis', kind: 'text' },
  { key: 'log-level', kind: 'text' },
  { key: 'lease', kind: 'text' },
  { key: 'cpus', kind: 'text' },
  { key: 'drain', kind: 'switch' },
  { key: 'allow-user', kind: 'list' },
  { key: 'attribute', kind: 'pairs' },
  { key: 'reserve', kind: 'fields' },
];
const SCHEMA = { settings: SETTINGS, structured: ['queues'] };

/** What a file becomes: what would have been typed. */
function typed(text: string): Record<string, unknown> {
  const { settings, problems } = parseConfigText(text, SCHEMA);
  expect(problems).toEqual([]);
  return Object.fromEntries(settings);
}

/** What is wrong with a file, as a person reads it. */
function problems(...lines: string[]): string[] {
  const found = parseConfigText(lines.join('\n'), SCHEMA).problems;
  return found.map((problem) => describeProblem('kaon.toml', problem));
}

describe('a file', () => {
  test('becomes what would have been typed: numbers are text, as flags are', () => {
    expect(typed('lease = "3s"\ncpus = 0.5\ndrain = true')).toEqual({
      lease: '3s',
      cpus: '0.5',
      drain: true,
    });
  });

  test('has a flag that may be repeated as an array, or as one value', () => {
    expect(typed('allow-user = ["www-data", "mail"]')).toEqual({
      'allow-user': ['www-data', 'mail'],
    });
    expect(typed('allow-user = "mail"')).toEqual({ 'allow-user': ['mail'] });
  });

  test('has KEY=VALUE flags as a table, or as the array that was typed', () => {
    expect(typed('[attribute]\nrack = "a1"\nzone = 3')).toEqual({
      attribute: ['rack=a1', 'zone=3'],
    });
    expect(typed('attribute = ["rack=a1"]')).toEqual({ attribute: ['rack=a1'] });
  });

  test('has a list of resources as a table, or as the text that was typed', () => {
    expect(typed('reserve = { cpus = 0.5, mem = "1G" }')).toEqual({ reserve: 'cpus=0.5,mem=1G' });
    expect(typed('reserve = "mem=1G"')).toEqual({ reserve: 'mem=1G' });
  });

  test('hands on what has a form of its own', () => {
    const { structured } = parseConfigText('[[queues]]\nname = "mail"\ncpus = 4', SCHEMA);
    expect(structured).toEqual({ queues: [{ name: 'mail', cpus: 4 }] });
  });

  test('tells everything that is wrong with it, and where', () => {
    expect(
      problems('leas = "3s"', 'log_level = "info"', 'drain = "yes"', '', 'redis = ["a"]'),
    ).toEqual([
      'kaon.toml:1: unknown setting "leas"; did you mean "lease"?',
      'kaon.toml:2: unknown setting "log_level"; did you mean "log-level"?',
      'kaon.toml:3: drain: "yes" is not true or false',
      'kaon.toml:5: redis: a list is not one value; write redis = "..."',
    ]);
  });

  test.each([
    ['colour = 1', 'kaon.toml:1: unknown setting "colour"'],
    ['lease = true', 'kaon.toml:1: lease: true is not a value of it'],
    ['lease = 2026-11-20', 'kaon.toml:1: lease: a date is not one value; write lease = "..."'],
    [
      'allow-user = { a = 1 }',
      'kaon.toml:1: allow-user: a table; write allow-user = ["...", "..."]',
    ],
    ['allow-user = [true]', 'kaon.toml:1: allow-user: true is neither text nor a number'],
    [
      '[attribute]\nrack = [1]',
      'kaon.toml:1: attribute: rack = a list is neither text nor a number',
    ],
    ['[queue]\nname = 1', 'kaon.toml:1: unknown setting "queue"; did you mean "queues"?'],
  ])('says of %j what is wrong', (text, problem) => {
    expect(problems(text)).toEqual([problem]);
  });

  test('that is not TOML is told by the line, and nothing else of it is', () => {
    const [problem = '', ...more] = problems('lease = "3s"', 'drain = yes', 'x = 1');
    expect(problem).toMatch(/^kaon\.toml:2: not TOML: \S/);
    expect(problem).not.toContain('\n');
    expect(more).toEqual([]);
  });

  test('in which a setting stands twice is refused', () => {
    expect(problems('lease = "3s"', 'lease = "4s"')[0]).toMatch(/^kaon\.toml:2: not TOML: /);
  });

  test('that does not exist is a problem like any other', () => {
    const directory = mkdtempSync(join(tmpdir(), 'kaon-config-'));
    try {
      const path = join(directory, 'master.toml');
      expect(readConfigFile(path, SCHEMA).problems).toEqual([{ message: 'no such file' }]);
      expect(readConfigFile(directory, SCHEMA).problems[0]?.message).toMatch(/^cannot be read: /);
      writeFileSync(path, 'lease = "3s"');
      expect(readConfigFile(path, SCHEMA)).toMatchObject({ path, problems: [] });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

test('the line of a key is that of its first place in the outermost table', () => {
  const text = [
    '# redis = "no"',
    'redis = "redis://h"',
    '"log-level" = "info"',
    'attribute.rack = "a1"',
    '[other]',
    'redis = 1',
    '[[queues]]',
    'lease = 2',
  ];
  expect([...linesOfKeys(text.join('\n'))]).toEqual([
    ['redis', 2],
    ['log-level', 3],
    ['attribute', 4],
    ['other', 5],
    ['queues', 7],
  ]);
});

test.each([
  ['leese', 'lease'],
  ['laese', 'lease'],
  ['log-lvel', 'log-level'],
  ['level', 'log-level'],
  ['redis-url', 'redis'],
  ['xyz', undefined],
])('who writes %s may have meant %s', (word, meant) => {
  expect(closest(word, ['redis', 'lease', 'log-level'])).toBe(meant);
});
