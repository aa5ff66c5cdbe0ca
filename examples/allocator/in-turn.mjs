// An allocator of one's own: agents go to the frameworks in turn, one after the other, whatever each of them holds.
//
//   kaon master --allocator ./examples/allocator/in-turn.mjs
//
// docs/allocators.md says what a round is, and what the master makes of mistakes.

/** Who was served last has to wait until all others were, so the turns go on from round to round. */
let lastServed = '';

export default function allocate(round) {
  const waiting = round.candidates
    .map((candidate) => ({ candidate, name: `${candidate.frameworkId} ${candidate.role}` }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const grants = [];
  for (const agent of round.agents) {
    const start = waiting.findIndex(({ name }) => name > lastServed);
    const order = [...waiting.slice(Math.max(start, 0)), ...waiting.slice(0, Math.max(start, 0))];
    for (const { candidate, name } of order) {
      const resources = portionOf(round, grants, candidate, agent);
      if (resources === undefined) continue;
      grants.push({
        frameworkId: candidate.frameworkId,
        role: candidate.role,
        agentId: agent.agentId,
        resources,
      });
      lastServed = name;
      break;
    }
  }
  return grants;
}

/** All of an agent, or one unit of the first need that fits; undefined: nothing of it is of any use. */
function portionOf(round, grants, candidate, agent) {
  // This one knows no quota: a role that has a limit gets nothing.
  const path = candidate.role
    .split('/')
    .map((_, index, parts) => parts.slice(0, index + 1).join('/'));
  if (path.some((role) => round.roles.get(role)?.limit)) return undefined;
  const need = candidate.needs?.find(
    ({ resources, attributes, count, gang, notOn, maxPerAgent, offeredOn }) =>
      fits(resources, agent.free) &&
      // Nor all of something at once: who wants that gets nothing.
      gang !== true &&
      notOn?.has(agent.agentId) !== true &&
      (offeredOn?.get(agent.agentId) ?? 0) < (maxPerAgent ?? Infinity) &&
      Object.entries(attributes).every(([key, value]) => agent.attributes[key] === value) &&
      count > grants.filter(({ frameworkId }) => frameworkId === candidate.frameworkId).length,
  );
  if (candidate.needs && !need) return undefined;
  const resources = need?.resources ?? agent.free;
  return candidate.refuses(agent.agentId, resources) ? undefined : resources;
}

function fits(need, free) {
  return need.cpuMillis <= free.cpuMillis && need.memMib <= free.memMib;
}
