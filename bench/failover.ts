/** What a failover costs: how long nothing is launched, what is lost, and how a large cluster comes through it. */
import { measureScale } from './failover-scale.ts';
import { measureTakeovers } from './failover-takeover.ts';
import type { BenchResult } from './harness.ts';

/** Runs the benchmark on clusters of its own. `KAON_BENCH_FAILOVER=takeover|scale` runs one half. */
export async function run(): Promise<BenchResult> {
  const half = process.env['KAON_BENCH_FAILOVER'];
  return {
    name: 'failover',
    about:
      'Real masters on a real Redis. First under a launch every 5 ms by a framework on 100 simulated agents: from what befalls the leader to the first launch of the next one, as its agent hears of it. Then 10,000 agents with real mailboxes in one process: from SIGTERM of the leader to the first commit of the next one, and from SIGKILL of Redis until the last agent has heard that it is registered again.',
    figures: [
      ...(half === 'scale' ? [] : await measureTakeovers()),
      ...(half === 'takeover' ? [] : await measureScale()),
    ],
    notes: [
      'A standby notices a death by the connection that the kernel closes; where it may not ask Redis for that (`-client|list` in its ACL), by `kaon step-down` in `ExecStopPost=`, whose start as a process is in the figure. A frozen leader keeps its connection: then the lease (3 s) has to end.',
      'An offer counts as voided if it was taken back, or if framework and registry disagree about it at the end.',
    ],
  };
}
