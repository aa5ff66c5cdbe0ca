/** Builders of unit specifications for tests: what does not matter has a default. */
import type { UnitSpec } from '../../systemd/properties.ts';

/** A small unit `kaon-<stem>.service`; output is thrown away. */
export function unitSpec(
  stem: string,
  argv: readonly string[],
  more: Partial<UnitSpec> = {},
): UnitSpec {
  return {
    name: `kaon-${stem}.service`,
    slice: 'kaon-test.slice',
    description: `test ${stem}`,
    argv,
    workingDirectory: '/tmp',
    stdoutPath: '/dev/null',
    stderrPath: '/dev/null',
    environment: {},
    cpuMillis: 500,
    memoryMib: 64,
    tasksMax: 64,
    stopTimeoutMs: 2_000,
    journalFields: {},
    ...more,
  };
}
