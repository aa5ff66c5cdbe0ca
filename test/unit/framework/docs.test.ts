/** docs/frameworks.md: tells of everything that there is, and its examples are programs. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { transform } from 'esbuild';
import * as sdk from '../../../framework/index.ts';

const read = (path: string): string =>
  readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const TEXT = read('docs/frameworks.md');

const untold = (names: readonly string[]): string[] =>
  names.filter((name) => !new RegExp(`\\b${name}\\b`).test(TEXT));

/** Members of an interface, which are gone when the code runs. */
const namesIn = (source: string, pattern: RegExp): string[] =>
  [...source.matchAll(pattern)].map(([, name = '']) => name);

describe('the guide for frameworks', () => {
  test('tells of each call of the driver', () => {
    const calls = Object.getOwnPropertyNames(sdk.SchedulerDriver.prototype);
    expect(untold(calls.filter((name) => name !== 'constructor'))).toEqual([]);
  });

  test('tells of each callback', () => {
    const callbacks = namesIn(read('framework/scheduler.ts'), /^ {2}(\w+)\??\(/gm);
    expect(callbacks).toContain('taskResized');
    expect(untold(callbacks)).toEqual([]);
  });

  test('tells of each option and each error', () => {
    const [, options = ''] = /interface DriverOptions \{([^}]*)\}/.exec(
      read('framework/driver-options.ts'),
    ) ?? [''];
    const names = namesIn(options, /readonly (\w+)\?/g);
    expect(names).toContain('redis');
    expect(untold([...names, ...sdk.DRIVER_ERROR_CODES])).toEqual([]);
  });

  test('has examples that are programs, and import what there is', async () => {
    const examples = namesIn(TEXT, /^```js\n([\s\S]*?)^```/gm);
    expect(examples.length).toBeGreaterThan(3);
    for (const example of examples) {
      await transform(example, { loader: 'js', format: 'esm' });
      const imported = namesIn(example, /^import \{([^}]*)\} from 'kaon\/framework'/gm);
      for (const name of imported.flatMap((list) => list.split(','))) {
        expect(Object.keys(sdk)).toContain(name.trim());
      }
    }
  });
});
