/** What is read of a unit while it ends: its properties are answers of their own, and it may end between any two. */
import { expect, test } from '@jest/globals';
import type { BusCall } from '../../../systemd/bus-connection.ts';
import { systemdCalls } from '../../../systemd/systemd-calls.ts';
import type { StatusParts } from '../../../systemd/unit-status.ts';
import { START_TIMED_OUT, STATUS_PROPERTIES, unitStatus } from '../../../systemd/unit-status.ts';

const ROW = {
  name: 'kaon-a.service',
  loadState: 'loaded',
  activeState: 'active',
  subState: 'running',
  jobPath: undefined,
};
const BEFORE: Readonly<Record<string, unknown>> = {
  Result: 'success',
  MainPID: 7,
  ExecMainStartTimestamp: 1_000_000n,
};
const AFTER: Readonly<Record<string, unknown>> = {
  Result: 'timeout',
  ExecMainCode: 2,
  ExecMainStatus: 15,
  ExecMainStartTimestamp: 1_000_000n,
  ExecMainExitTimestamp: 2_000_000n,
};

/** A systemd whose unit ends after it has answered so many questions. */
function endsAfter(answers: number): ReturnType<typeof systemdCalls> {
  let asked = 0;
  return systemdCalls(({ body = [] }: BusCall) => {
    const [, property] = body as [string, string];
    const value = (asked < answers ? BEFORE : AFTER)[property];
    asked += 1;
    return Promise.resolve([{ value: value ?? 0 }]);
  });
}

function status(more: Partial<StatusParts>): ReturnType<typeof unitStatus> {
  const rest = { invocationId: undefined, leftActive: 2_000_000n, controlGroup: '', use: {} };
  return unitStatus({ row: ROW, properties: new Map(), ...rest, ...more });
}

test.each(Array.from({ length: STATUS_PROPERTIES.length + 1 }, (_none, index) => index))(
  'a unit that ends after %i answers has not ended, or is told with all of its end',
  async (answers) => {
    const properties = await endsAfter(answers).serviceProperties(ROW.name, STATUS_PROPERTIES);
    const { exitKind, exitStatus, exitedAtMs, result } = status({ properties });
    if (exitKind === 'none') {
      expect(answers).toBeGreaterThan(0);
    } else {
      expect({ exitKind, exitStatus, exitedAtMs, result }).toEqual({
        exitKind: 'killed',
        exitStatus: 15,
        exitedAtMs: 2000,
        result: 'timeout',
      });
    }
  },
);

test('a time that runs out before the unit was ever active is the time to start', () => {
  const properties = new Map([['Result', 'timeout']]);
  expect(status({ properties, leftActive: 0n }).result).toBe(START_TIMED_OUT);
  expect(status({ properties, leftActive: 1_000_000n }).result).toBe('timeout');
  // A signal does not say when the unit left being active, and is not guessed at.
  expect(status({ properties, leftActive: undefined }).result).toBe('timeout');
  expect(status({ properties: new Map([['Result', 'signal']]), leftActive: 0n }).result).toBe(
    'signal',
  );
});
