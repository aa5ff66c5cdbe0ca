import { expect, test } from '@jest/globals';
import { Connection } from '../../../framework/connection.ts';
import { silentLog } from '../../../io/log.ts';
import { frameworkInfo } from '../../support/builders.ts';
import { DriverBench } from './driver-bench.ts';

test('a connection that is closed while it opens looks for no master', async () => {
  const bench = new DriverBench();
  const { clock, store } = bench;
  const connection = new Connection({
    info: frameworkInfo('f1'),
    address: { url: '', cluster: '' },
    clock,
    log: silentLog,
    findToken: () => undefined,
    store,
    onMessages: () => Promise.resolve(),
    onEnd: () => undefined,
    onMaster: ({ masterId }) => bench.calls.push(masterId),
    onNoMaster: () => undefined,
  });
  bench.lead();
  const opening = connection.open();
  await connection.close();
  await opening;
  await clock.pass(5000);
  expect([bench.calls.seen, bench.typesSaid()]).toEqual([[], []]);
  await bench.end();
});
