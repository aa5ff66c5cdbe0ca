/** How large the agents of the cluster are, so that a job which fits on none of them is told from one that has to wait. */
import type { Resources } from '../../framework/index.ts';
import { addResources, fits, formatResources } from '../../framework/index.ts';
import type { Clock } from '../../io/clock.ts';
import type { Candidate } from './core/selection.ts';
import { hasAttributes } from './core/selection.ts';

/** How old what is known may be, milliseconds. */
const MAX_AGE_MS = 10_000;

/** An agent, as far as the size of jobs goes. */
export interface AgentSize {
  readonly hostname: string;
  readonly total: Resources;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Reads them; undefined if nobody knows. */
export type ReadAgents = () => Promise<readonly AgentSize[] | undefined>;

/** What is known of them, and for how long. */
export class AgentSizes {
  readonly #clock: Clock;
  readonly #read: ReadAgents | undefined;
  #agents: readonly AgentSize[] = [];
  #readAtMs = -Infinity;
  /** What was found out of a job: with many agents that is not for every look at a queue. */
  #known = new WeakMap<Candidate, string | false>();

  /** @param read undefined: nobody knows, and every job is one that has to wait */
  constructor(clock: Clock, read: ReadAgents | undefined) {
    this.#clock = clock;
    this.#read = read;
  }

  /** Reads again if what is known is old. */
  async refresh(): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    if (!this.#read || nowMs - this.#readAtMs < MAX_AGE_MS) return;
    this.#readAtMs = nowMs;
    this.#agents = (await this.#read()) ?? this.#agents;
    this.#known = new WeakMap();
  }

  /** @returns why no agent could hold the job, if it were empty; undefined if one could, or nobody knows */
  whyNowhere(candidate: Candidate): string | undefined {
    if (this.#agents.length === 0) return undefined;
    const found = this.#known.get(candidate) ?? this.#findOut(candidate) ?? false;
    this.#known.set(candidate, found);
    return found === false ? undefined : found;
  }

  #findOut({ resources, attributes, executor }: Candidate): string | undefined {
    const suitable = this.#agents.filter((agent) => hasAttributes(agent.attributes, attributes));
    const need = executor ? addResources(resources, executor.resources) : resources;
    if (suitable.some(({ total }) => fits(need, total))) return undefined;
    const [first] = suitable;
    if (!first) {
      const wanted = Object.entries(attributes).map(([key, value]) => `${key}=${value}`);
      return `no agent has ${wanted.join(' and ')}`;
    }
    const largest = suitable.reduce((best, agent) => {
      const [a, b] = [agent.total, best.total];
      return a.cpuMillis > b.cpuMillis || (a.cpuMillis === b.cpuMillis && a.memMib > b.memMib)
        ? agent
        : best;
    }, first);
    return `no agent is large enough for ${formatResources(need)}: the largest is ${largest.hostname} with ${formatResources(largest.total)}`;
  }
}
