/** Flags that name resources. */
import { describe, expect, test } from '@jest/globals';
import { amountsOf, reserveOf, resourcesOf, writeResources } from '../../../cli/resource-flags.ts';
import { NO_RESOURCES } from '../../../protocol/resources.ts';

const agent = (value: string): ReturnType<typeof resourcesOf> =>
  resourcesOf({ flag: '--resources', value }, NO_RESOURCES, true);
const quota = (value: string): ReturnType<typeof resourcesOf> =>
  resourcesOf({ flag: '--limit', value }, NO_RESOURCES);

test('what an agent has is amounts, and numbers where the units have some', () => {
  const stated = agent('cpus=4,mem=8G,disk=100G,gpus=2,ports=31000-31001+8080,license=5,fpga=3-4');
  expect(stated).toEqual({
    cpuMillis: 4000,
    memMib: 8192,
    others: { disk: 102_400, gpus: 2, ports: 3, license: 5, fpga: 2 },
    numbers: {
      gpus: [[0, 1]],
      ports: [
        [8080, 8080],
        [31000, 31001],
      ],
      fpga: [[3, 4]],
    },
  });
  expect(agent(writeResources(stated))).toEqual(stated);
});

test('what a role may have is amounts only', () => {
  expect(quota('gpus=2,ports=10')).toEqual({ others: { gpus: 2, ports: 10 } });
});

test('what a task asks for has CPU and memory in options of their own', () => {
  expect(amountsOf('--resource', ['gpus=1', 'disk=1.5G'])).toEqual({ gpus: 1, disk: 1536 });
  expect(amountsOf('--resource', [])).toBeUndefined();
});

test('nothing is written for nothing', () => {
  expect(writeResources({})).toBe('');
});

describe('what is wrong is said:', () => {
  test.each([
    [
      'ports=5-3',
      '--resources ports=5-3: not numbers; write 31000-31999, 8080 or 31000-31999+8080',
    ],
    ['ports=1-70000', '--resources ports=1-70000: not numbers; '],
    ['ports=1-3+2', '--resources ports=1-3+2: 2 is in it twice'],
    ['cpu=3', '--resources cpu=3: cpu is no resource; did you mean cpus?'],
    ['memory=3G', '--resources memory=3G: memory is no resource; did you mean mem?'],
    ['license=x', '--resources license=x: not numbers; '],
    [
      'Gpus=1',
      '--resources Gpus=1: not a list of resources; write cpus=4,mem=8G, or one of the two',
    ],
    ['constructor=1', '--resources constructor=1: not a list of resources; '],
    ['gpus=1,gpus=2', '--resources gpus=1,gpus=2: gpus is given twice'],
    ['disk=1-2', '--resources disk=1-2: not a size; '],
    ['', "--resources '': not a list of resources; "],
  ])('an agent with %s', (value, words) => {
    expect(() => agent(value)).toThrow(words);
  });

  test.each([
    ['gpus', '--resource gpus: not a whole number up to 1073741824'],
    ['cpus=1', '--resource cpus=1: write --cpus 1'],
    ['gpus=-1', '--resource gpus=-1: not a whole number up to 1073741824'],
    ['gpus=99999999999', '--resource gpus=99999999999: not a whole number up to 1073741824'],
    ['=1', '--resource =1: not a resource; write gpus=1 or disk=10G'],
  ])('a task that asks for %s', (value, words) => {
    expect(() => amountsOf('--resource', [value])).toThrow(words);
  });

  test('a resource that is asked for twice', () => {
    expect(() => amountsOf('--resource', ['gpus=1', 'gpus=2'])).toThrow('gpus is given twice');
  });

  test('a reserve of what is not detected', () => {
    expect(() => reserveOf('gpus=1')).toThrow('only cpus and mem can be kept for the system');
  });
});
