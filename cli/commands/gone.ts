/** `kaon gone AGENT`: an operator's word that a node will not come back, and what becomes of its tasks by that. */
import { systemClock } from '../../io/clock.ts';
import { lastHeard } from '../../io/liveness.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { KaonError } from '../../protocol/errors.ts';
import type { AgentId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { describeAgentState, pickAgent } from '../agent-view.ts';
import { withStore } from '../connection.ts';
import { newestEntry, readEvents } from '../event-log.ts';
import { EXIT_OK } from '../failure.ts';
import { tellMaster } from '../operator.ts';
import type { GoneOptions } from '../options.ts';
import { readAgent, readCluster, tellUnreadable } from '../registry.ts';
import { countOf, escapeControls, formatSpan } from '../words.ts';

/** A master takes it within milliseconds, if one leads; a failover takes some seconds. */
const PATIENCE_MS = 15_000;
const LOOK_MS = 100;
/** Tasks that are named. */
const NAMED_MAX = 10;

/** @returns the exit code */
export async function gone(options: GoneOptions, asked: string): Promise<number> {
  return withStore(options, { name: 'gone' }, async (store) => {
    const cluster = await readCluster(store);
    tellUnreadable(cluster.unreadable);
    const agent = pickAgent(asked, cluster.agents);
    const { agentId } = agent.info;
    if (agent.state === 'gone') {
      const state = describeAgentState(agent, cluster.nowMs);
      process.stdout.write(`${titleOf(agent)} is ${state} already\n`);
      return EXIT_OK;
    }
    const running = cluster.tasks.filter(
      (task) => task.agentId === agentId && !isTerminal(task.state),
    );
    if (agent.state === 'active' && !options.force) {
      throw refusal(agent, running.length, await silenceOf(store, agentId, cluster.nowMs));
    }
    const before = await newestEntry(store);
    await tellMaster(store, { type: 'MarkAgentGone', agentId }, `say that ${agentId} is gone`);
    if (!(await store.leader())) {
      process.stderr.write('kaon: no master leads: the request waits until one does\n');
    }
    await waitUntilGone(store, agentId);
    const ended = await endedBy(store, agentId, before);
    process.stdout.write(`${titleOf(agent)} is gone; ${describeEnded(ended)}\n`);
    return EXIT_OK;
  });
}

function titleOf({ info }: AgentRecord): string {
  const host = escapeControls(info.hostname);
  return info.agentId === info.hostname ? `agent ${host}` : `agent ${info.agentId} (${host})`;
}

/** @returns `, heard of 2s ago`; '' if it has never been heard of */
async function silenceOf(store: RedisStore, agentId: AgentId, nowMs: number): Promise<string> {
  const seenMs = await lastHeard(store.redis, store.keys, agentName(agentId));
  return seenMs === undefined ? '' : `, heard of ${formatSpan(seenMs, nowMs)} ago`;
}

function refusal(agent: AgentRecord, taskCount: number, heard: string): KaonError {
  const tasks = taskCount === 0 ? 'has no tasks' : `runs ${countOf(taskCount, 'task')}`;
  return new KaonError(
    'agent-active',
    `${titleOf(agent)} is active${heard}, and ${tasks}; gone is for a node that will not come back:` +
      ' its tasks are reported as ended at once, and ended for real only if its agent returns',
    { hint: 'is the node down for good, and only looks alive? then give --force' },
  );
}

async function waitUntilGone(store: RedisStore, agentId: AgentId): Promise<void> {
  const deadlineMs = performance.now() + PATIENCE_MS;
  for (;;) {
    const record = await readAgent(store, agentId);
    if (!record || record.state === 'gone') return;
    if (performance.now() >= deadlineMs) {
      throw new KaonError(
        'gone-timeout',
        `agent ${agentId} is ${record.state} ${formatDuration(PATIENCE_MS)} after the request: no master has taken it`,
        { hint: 'the request stays in force; kaon status says whether a master leads' },
      );
    }
    await systemClock.sleep(LOOK_MS);
  }
}

/** @returns the tasks that were ended by the word, as the event log has it */
async function endedBy(store: RedisStore, agentId: AgentId, before: string): Promise<string[]> {
  const ended: string[] = [];
  for await (const event of readEvents(store, { from: `(${before}` }, [])) {
    const isEnd = event.type === 'task.updated' && event.state === 'TASK_GONE_BY_OPERATOR';
    if (isEnd && event.agentId === agentId) ended.push(event.taskId ?? '');
  }
  return ended;
}

function describeEnded(ended: readonly string[]): string {
  if (ended.length === 0) return 'no task was on it';
  const named = ended.slice(0, NAMED_MAX).join(' ');
  const more = ended.length > NAMED_MAX ? ` and ${String(ended.length - NAMED_MAX)} more` : '';
  const verb = ended.length === 1 ? 'has' : 'have';
  return `${countOf(ended.length, 'task')} of it ${verb} ended as TASK_GONE_BY_OPERATOR: ${named}${more}`;
}
