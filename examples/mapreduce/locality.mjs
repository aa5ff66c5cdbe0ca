/**
 * Which map task goes where. One is best run where its input is; but a job that waits for that for long is not faster for
 * it. So offers of other nodes are left alone for a short while, and then taken until a node with input comes again: delay
 * scheduling (Zaharia et al., EuroSys 2010).
 */
import { packTasks } from 'kaon/framework';

/** @param waitMs how long offers of other nodes are left alone; 0: never */
export function createDelay(waitMs) {
  return { waitMs, skippingSinceMs: undefined };
}

/** Whether the node of the offer is one of these. */
export const isHost = (hosts, { hostname, agentId }) =>
  hosts.includes(hostname) || hosts.includes(agentId);

/**
 * @param tasks with `hosts`, the nodes that have their input; without any, each node is as good
 * @param delay is changed
 * @returns launches, the offers that are not used, and for how long to decline those (undefined: as usual)
 */
export function place(offers, tasks, { delay, nowMs, running }) {
  const options = { strategy: 'spread', running };
  const near = packTasks(markHosts(offers, tasks), tasks, {
    ...options,
    constraints: ({ hosts }) =>
      hosts.length > 0 ? { attributes: { [markOf(hosts)]: 'yes' } } : {},
  });
  if (near.launches.some(({ tasks: placed }) => placed.some(({ hosts }) => hosts.length > 0))) {
    delay.skippingSinceMs = undefined;
  }
  const far = packTasks(near.unusedOffers, near.unplaced, options);
  if (far.launches.length === 0) return near;
  delay.skippingSinceMs ??= nowMs;
  const leftMs = delay.skippingSinceMs + delay.waitMs - nowMs;
  if (leftMs > 0) return { ...near, refuseMs: leftMs };
  return { ...far, launches: [...near.launches, ...far.launches] };
}

/** The packing compares attributes; so each offer says for which inputs it is a good one. */
function markHosts(offers, tasks) {
  const groups = new Map(tasks.map(({ hosts }) => [markOf(hosts), hosts]));
  return offers.map((offer) => {
    const marks = [...groups].filter(([, hosts]) => isHost(hosts, offer));
    const attributes = Object.fromEntries(marks.map(([mark]) => [mark, 'yes']));
    return { ...offer, attributes: { ...offer.attributes, ...attributes } };
  });
}

const markOf = (hosts) => `input on ${hosts.join(',')}`;
