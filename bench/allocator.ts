/**
 * Rounds of the allocator in the master's core, without Redis: the first round of a cluster in which everything is free, and
 * rounds after a hundredth of the agents has something free again.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { offerResources } from '../master/core/step.ts';
import type { Cluster, Demand, Shape } from './allocator-cluster.ts';
import { cpuMs, createCluster, freeAgents, settle } from './allocator-cluster.ts';
import type { BenchResult, Figure } from './harness.ts';
import { median } from './harness.ts';

const AGENTS = [1000, 10_000, 50_000];
const FRAMEWORKS = [1, 50, 1000];
const ROLES = [1, 100];
const DEMANDS = ['anything', 'stated'] as const;
/** First rounds of each shape, of which the first ones run code that is not compiled yet; of the largest clusters three. */
const RUNS = 7;
const LARGE_RUNS = 3;
const LARGE_AGENTS = 50_000;
const INCREMENTAL_RUNS = 5;

/** What one shape of a cluster costs, medians, milliseconds of CPU. */
interface Found {
  readonly shape: Shape;
  /** The allocator alone, as Mesos counts it. */
  readonly fullMs: number;
  /** With the checks, the records and the messages of all offers. */
  readonly fullWithOffersMs: number;
  readonly offers: number;
  readonly incrementalMs: number;
  readonly incrementalWithOffersMs: number;
  readonly heapMb: number;
}

/** @returns the matrix, as a table in the notes, and the marks */
export function run(): Promise<BenchResult> {
  const found = DEMANDS.flatMap((demand) => matrixOf(demand).map(measure));
  return Promise.resolve({
    name: 'allocator',
    about:
      'One round of the hierarchical allocator: the first one of a cluster where all is free, and rounds after 1 % of the agents has everything free again. Frameworks take anything (agents of 24 cores and 4 GiB), or have stated a demand that nobody can meet, each of units of its own size (1 to 4 cores, 1 to 8 GiB; agents of 24 cores and 96 GiB). CPU time, because the machine is shared; medians of seven first rounds, of three at 50,000 agents. The very first round of a process takes several times that: nothing is compiled yet.',
    figures: DEMANDS.flatMap((demand) => figuresOf(found, demand)),
    notes: [
      ...DEMANDS.map((demand) => tableOf(found, demand)),
      curveOf('anything'),
      curveOf('stated'),
      besideMesos(found),
    ],
  });
}

function matrixOf(demand: Demand): Shape[] {
  return AGENTS.flatMap((agents) =>
    FRAMEWORKS.flatMap((frameworks) =>
      ROLES.filter((roles) => roles <= frameworks).map((roles) => {
        return { agents, frameworks, roles, demand };
      }),
    ),
  );
}

function figuresOf(found: readonly Found[], demand: Demand): Figure[] {
  const usual = at(found, { demand, agents: 10_000, frameworks: 50 }) as Found;
  const large = at(found, { demand, agents: 50_000, frameworks: 1000 }) as Found;
  const of = demand === 'stated' ? ', with demand' : '';
  return [
    {
      name: `10,000 agents, 50 frameworks${of}: first round`,
      value: usual.fullMs,
      unit: 'ms',
      mark: { atMost: 100 },
    },
    {
      name: `10,000 agents, 50 frameworks${of}: 1 % changed`,
      value: usual.incrementalMs,
      unit: 'ms',
      mark: { atMost: 10 },
    },
    {
      name: `50,000 agents, 1,000 frameworks${of}: first round`,
      value: large.fullMs,
      unit: 'ms',
      mark: { atMost: 1000 },
    },
  ];
}

function at(found: readonly Found[], wanted: Omit<Shape, 'roles'>): Found | undefined {
  return found.find(
    ({ shape }) =>
      shape.demand === wanted.demand &&
      shape.agents === wanted.agents &&
      shape.frameworks === wanted.frameworks,
  );
}

const WANTING = {
  anything: 'Frameworks that take anything:',
  stated: 'Frameworks with a demand that cannot be met:',
};

function tableOf(found: readonly Found[], wanted: Demand): string {
  const rows = found
    .filter(({ shape }) => shape.demand === wanted)
    .map(({ shape: { agents, frameworks, roles }, ...one }) =>
      [
        agents.toLocaleString('en'),
        frameworks.toLocaleString('en'),
        String(roles),
        one.fullMs.toFixed(1),
        one.fullWithOffersMs.toFixed(0),
        one.offers.toLocaleString('en'),
        one.incrementalMs.toFixed(2),
        one.incrementalWithOffersMs.toFixed(1),
        one.heapMb.toFixed(0),
      ].join(' | '),
    );
  return [
    `${WANTING[wanted]}\n`,
    'agents | frameworks | roles | first round, ms | with its offers made, ms | offers | 1 % changed, ms | with its offers made, ms | heap of the state, MB',
    '---|---|---|---|---|---|---|---|---',
    ...rows,
  ].join('\n');
}

function curveOf(demand: Demand): string {
  const rows = [10, 100, 1000].flatMap((changed) =>
    [10_000, 50_000].map((agents) => {
      const cluster = settle({ agents, frameworks: 50, roles: 1, demand });
      const { ms, withOffersMs } = incrementalOf(cluster, changed);
      const numbers = [String(changed), agents.toLocaleString('en')];
      return [...numbers, ms.toFixed(2), withOffersMs.toFixed(2)].join(' | ');
    }),
  );
  return [
    `What a round costs by what has changed, and by what the cluster is (50 frameworks). ${WANTING[demand]}\n`,
    'agents that have changed | of | ms | with its offers made, ms',
    '---|---|---|---',
    ...rows,
  ].join('\n');
}

/** Published, of Mesos's own benchmark of the same first round. */
const MESOS = [
  { agents: 1000, frameworks: 100, text: '100 to 200' },
  { agents: 5000, frameworks: 500, text: '400 (1.8.0), 1,900 (1.6.0)' },
  { agents: 10_000, frameworks: 1000, text: '1,100 (1.8.0), 6,300 (1.6.0)' },
  { agents: 20_000, frameworks: 2000, text: '3,800 (1.8.0), 23,000 (1.6.0)' },
];

function besideMesos(found: readonly Found[]): string {
  const rows = MESOS.map(({ agents, frameworks, text }) => {
    const ours = DEMANDS.map((demand) => {
      const shape = { agents, frameworks, roles: 1, demand };
      return (at(found, shape)?.fullMs ?? firstRound(shape).ms).toFixed(0);
    });
    const size = [agents.toLocaleString('en'), frameworks.toLocaleString('en')];
    return [...size, text, ...ours].join(' | ');
  });
  return [
    'Beside Mesos (`BENCHMARK_HierarchicalAllocations`, from its blog of 2018-10-08 and the graphs there). Theirs is C++, wall time on machines of their own, servers that the blog does not describe for this figure; ours is one thread of a shared virtual machine. Theirs knows no stated demand; its batch rounds look at every agent, whatever has changed.\n',
    'agents | frameworks | Mesos, ms | anything, ms | stated demand, ms',
    '---|---|---|---|---',
    ...rows,
  ].join('\n');
}

interface First {
  readonly ms: number;
  readonly withOffersMs: number;
  readonly offers: number;
}

function firstRound(shape: Shape): First & { readonly cluster: Cluster } {
  const cluster = createCluster(shape);
  const { state, spent } = cluster;
  const startedMs = cpuMs();
  offerResources(state, 0);
  const withOffersMs = cpuMs() - startedMs;
  const { ms, grants } = spent();
  return { ms, withOffersMs, offers: grants, cluster };
}

function measure(shape: Shape): Found {
  const runs: First[] = [];
  const count = shape.agents < LARGE_AGENTS ? RUNS : LARGE_RUNS;
  while (runs.length < count) {
    const { cluster: _cluster, ...first } = firstRound(shape);
    runs.push(first);
  }
  // Apart from the others: to collect garbage throws compiled code away as well.
  const before = heapUsedMb();
  const { cluster, offers } = firstRound(shape);
  const heapMb = heapUsedMb() - before;
  const { ms, withOffersMs } = incrementalOf(cluster, Math.ceil(shape.agents / 100));
  return {
    shape,
    fullMs: median(runs.map((one) => one.ms)),
    fullWithOffersMs: median(runs.map((one) => one.withOffersMs)),
    offers,
    heapMb,
    incrementalMs: ms,
    incrementalWithOffersMs: withOffersMs,
  };
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function heapUsedMb(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed / 1e6;
}

/** So many agents give back what of them was offered, others each time, and it is offered anew. */
function incrementalOf(
  cluster: Cluster,
  changed: number,
): { readonly ms: number; readonly withOffersMs: number } {
  const times: number[] = [];
  const withOffers: number[] = [];
  for (let index = 0; index < INCREMENTAL_RUNS; index += 1) {
    freeAgents(cluster, changed, index * changed);
    const startedMs = cpuMs();
    offerResources(cluster.state, index);
    withOffers.push(cpuMs() - startedMs);
    times.push(cluster.spent().ms);
  }
  return { ms: median(times), withOffersMs: median(withOffers) };
}
