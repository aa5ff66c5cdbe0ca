/** Arguments that no master would take: refused at the call, by a code, and nothing is sent. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { TaskDescription } from '../../../framework/descriptions.ts';
import { DRIVER_ERROR_CODES } from '../../../framework/driver-errors.ts';
import type { SchedulerDriver } from '../../../framework/scheduler-driver.ts';
import { amount, offerIdOf, taskInfo, taskStatus } from '../../support/builders.ts';
import { DriverBench, thrownBy } from './driver-bench.ts';

let bench: DriverBench;
let driver: SchedulerDriver;

beforeEach(async () => {
  bench = new DriverBench();
  driver = await bench.connect(bench.driver());
});

afterEach(() => bench.end());

const o1 = offerIdOf('o1');
/** What a caller without types may hand in. */
const any = (value: unknown): never => value as never;

const circle: Record<string, unknown> = {};
circle['self'] = circle;

const WRONG: [string, string, RegExp, (driver: SchedulerDriver) => unknown][] = [
  [
    'constraints by a regular expression',
    'invalid-argument',
    /offerConstraints/,
    (d) => d.setOfferConstraints(any({ '*': [[{ attribute: 'rack', predicate: 'regex' }]] })),
  ],
  [
    'constraints with a field that there is not',
    'invalid-argument',
    /has no field offerConstraints\.\*\.0\.0\.value/,
    (d) =>
      d.setOfferConstraints({
        '*': [[any({ attribute: 'rack', predicate: 'exists', value: 'a' })]],
      }),
  ],
  [
    'constraints of a role that it does not have',
    'invalid-argument',
    /eng is none of the roles of f1/,
    (d) => d.setOfferConstraints({ eng: [[{ attribute: 'rack', predicate: 'exists' }]] }),
  ],
  ['a launch without offers', 'no-offers', /at least one offer/, (d) => d.launchTasks([], [])],
  [
    'a launch on no list of offers',
    'invalid-argument',
    /offers are not a list/,
    (d) => d.launchTasks(any(undefined), []),
  ],
  [
    'a launch on something else than offer ids',
    'invalid-argument',
    /offerIds\.0/,
    (d) => d.launchTasks(any([{ offerId: 'o1' }]), []),
  ],
  [
    'a launch of no list of tasks',
    'invalid-argument',
    /tasks are not a list/,
    (d) => d.launchTasks(o1, any(taskInfo('t1'))),
  ],
  [
    'a group of no list of tasks',
    'invalid-argument',
    /tasks are not a list/,
    (d) => d.launchTaskGroup(o1, any(taskInfo('t1'))),
  ],
  [
    'a launch of too many tasks',
    'too-many',
    /10001 tasks of one launch, limit 10000/,
    (d) =>
      d.launchTasks(
        o1,
        Array.from({ length: 10_001 }, () => taskInfo('t1')),
      ),
  ],
  [
    'a launch on too many offers',
    'too-many',
    /1001 offers of one call, limit 1000/,
    (d) =>
      d.launchTasks(
        Array.from({ length: 1001 }, () => o1),
        [],
      ),
  ],
  [
    'a launch that is too large as a whole',
    'too-large',
    /take fewer at a time/,
    (d) => {
      const command = { argv: ['x'.repeat(200_000)] };
      d.launchTasks(
        o1,
        Array.from({ length: 90 }, (_, n) => ({ ...taskInfo(`t${String(n)}`), command })),
      );
    },
  ],
  [
    'a task that is none',
    'invalid-argument',
    /task 1 of the launch is not an object/,
    (d) => d.launchTasks(o1, any([taskInfo('t1'), null])),
  ],
  [
    'a task without an id',
    'invalid-argument',
    /task 0 of the launch has no valid id/,
    (d) => d.launchTasks(o1, any([{ name: 'x' }])),
  ],
  [
    'a task with a field that there is not',
    'invalid-argument',
    /task 0 of the launch \(t1\) has no field comand/,
    (d) => d.launchTasks(o1, [{ ...taskInfo('t1'), ...{ comand: {} } }]),
  ],
  [
    'a task with such a field further in',
    'invalid-argument',
    /has no field command\.enviroment, resources\.cpus/,
    (d) => {
      const command = { argv: ['true'], enviroment: {} };
      const resources = { ...amount(1, 64), cpus: 1 };
      const task: TaskDescription = { taskId: 't1', name: 't1', command, resources };
      d.launchTasks(o1, [task]);
    },
  ],
  [
    'a task with such a field that is not valid either',
    'invalid-argument',
    /has no field resource$/,
    (d) => d.launchTasks(o1, any([{ taskId: 't1', name: 't1', resource: amount(1, 64) }])),
  ],
  [
    'a launch that is no JSON',
    'invalid-argument',
    /cannot be written as JSON/,
    (d) => d.launchTasks(o1, any([circle])),
  ],
  [
    'filters with a number that is none',
    'invalid-argument',
    /filters\.refuseMs/,
    (d) => d.launchTasks(o1, [], { refuseMs: Infinity }),
  ],
  [
    'filters with a field that there is not',
    'invalid-argument',
    /has no field filters\.refuseSeconds/,
    (d) => d.declineOffer(o1, any({ refuseSeconds: 5 })),
  ],
  [
    'requests that are no list',
    'invalid-argument',
    /requests are not a list/,
    (d) => d.requestResources(any({ resources: amount(1, 1) })),
  ],
  [
    'too many requests',
    'too-many',
    /1001 requests/,
    (d) => d.requestResources(Array.from({ length: 1001 }, () => ({ resources: amount(1, 1) }))),
  ],
  [
    'a request of no resources',
    'invalid-argument',
    /requests\.0\.resources/,
    (d) => d.requestResources(any([{ cpuMillis: 1 }])),
  ],
  ['a task id that is none', 'invalid-argument', /taskId/, (d) => d.killTask('no such id!')],
  ['a time that is none', 'invalid-argument', /gracePeriodMs/, (d) => d.killTask('t1', -1)],
  [
    'limits of nothing',
    'invalid-argument',
    /resources\.memMib/,
    (d) => d.resizeTask('t1', amount(1, 0)),
  ],
  [
    'an executor id that is none',
    'invalid-argument',
    /executorId/,
    (d) => d.shutdownExecutor('', 'a1'),
  ],
  [
    'a message that is no text',
    'invalid-argument',
    /data/,
    (d) => d.sendFrameworkMessage('e1', 'a1', any(Buffer.from('x'))),
  ],
  [
    'task ids that are no list',
    'invalid-argument',
    /task ids are not a list/,
    (d) => d.reconcileTasks(any('t1')),
  ],
  [
    'a status that is acknowledged twice',
    'implicit-acknowledgements',
    /implicitAcknowledgements: false/,
    (d) => d.acknowledgeStatusUpdate(taskStatus('f1', 't1', 'TASK_RUNNING')),
  ],
];

describe('a call with', () => {
  test.each(WRONG)('%s is refused', async (_title, code, message, call) => {
    const error = thrownBy(() => call(driver));
    expect([error?.name, error?.code]).toEqual(['KaonError', code]);
    expect(error?.message).toMatch(message);
    expect(DRIVER_ERROR_CODES).toContain(code);
    await bench.clock.pass(0);
    expect([driver.status, ...bench.typesSaid()]).toEqual(['DRIVER_RUNNING', 'RegisterFramework']);
  });

  test('wrong arguments is refused also when nobody would hear it', () => {
    const idle = bench.driver();
    expect(thrownBy(() => idle.launchTasks([], []))?.code).toBe('no-offers');
  });

  test('a task that is only not valid is sent: the master says so, and takes the others', async () => {
    const bad = { taskId: 't1', name: 't1', resources: { cpuMillis: -1, memMib: 1 } };
    driver.launchTasks(o1, [bad, taskInfo('t2')]);
    await bench.clock.pass(0);
    expect(bench.said().at(-1)).toMatchObject({
      type: 'LaunchTasks',
      tasks: [bad, taskInfo('t2')],
    });
  });

  test('fields whose value is undefined says nothing of them', async () => {
    driver.launchTasks(o1, [{ ...taskInfo('t1'), data: undefined, ...{ wrong: undefined } }]);
    await bench.clock.pass(0);
    expect(bench.said().at(-1)).toMatchObject({ tasks: [taskInfo('t1')] });
  });
});

describe('a driver of a framework', () => {
  test.each<[string, RegExp, object]>([
    ['with a value out of range', /failoverTimeoutMs/, { failoverTimeoutMs: -1 }],
    ['with a field that there is not', /no field failoverTimeout$/, { failoverTimeout: 5 }],
    ['with an id that is none', /frameworkId/, { frameworkId: 'a b' }],
    ['without a name', /name/, { name: undefined }],
  ])('%s is not made', (_title, message, description) => {
    const error = thrownBy(() => bench.driver({}, {}, description));
    expect(error?.code).toBe('framework-invalid');
    expect(error?.message).toMatch(message);
  });

  test('in a cluster without a name is not made', () => {
    expect(thrownBy(() => bench.driver({}, { cluster: 'a}b' }))?.code).toBe('cluster-name');
  });
});
