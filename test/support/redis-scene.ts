/** A master, an agent and a framework on a Redis address: what of a cluster must go on working while Redis does not. */
import { systemClock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { silentLog } from '../../io/log.ts';
import { requireHealthyRedis } from '../../io/redis-health.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from '../../master/master.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { masterIdOf, taskInfo, taskStatus } from './builders.ts';
import { startScriptedAgent, type ScriptedAgent } from './scripted-agent.ts';
import { startScriptedFramework, type ScriptedFramework } from './scripted-framework.ts';
import { createWatch, createWatchedLog, type Watch } from './watch.ts';

export interface SceneMaster {
  readonly log: ReturnType<typeof createWatchedLog>;
  readonly leading: Watch<boolean>;
  readonly store: RedisStore;
  stop(): Promise<void>;
}

export interface RedisScene {
  readonly master: SceneMaster;
  readonly agent: ScriptedAgent;
  readonly framework: ScriptedFramework;
  /** Takes a task from its offer to its end, and resolves when the framework knows of the end. */
  runTask(taskId: string): Promise<void>;
  stop(): Promise<void>;
}

const LEASE_MS = 1000;

function openStore(url: string, name: string, log: Log = silentLog): RedisStore {
  return new RedisStore({ url, cluster: 'scene', log, name });
}

export interface SceneMasterOptions {
  readonly id?: string;
  readonly offerTimeoutMs?: number;
}

/** A master as `kaon master` runs it: it checks Redis first, and waits for one that is not there. */
export function startSceneMaster(
  url: string,
  { id = 'm1', offerTimeoutMs = MASTER_SETTINGS_DEFAULT.offerTimeoutMs }: SceneMasterOptions = {},
): SceneMaster {
  const log = createWatchedLog();
  const leading = createWatch<boolean>();
  const store = openStore(url, id, log);
  const abort = new AbortController();
  const run = async (): Promise<void> => {
    await requireHealthyRedis({ redis: store.redis, log, clock: systemClock }, abort.signal);
    const settings = { ...MASTER_SETTINGS_DEFAULT, leaseMs: LEASE_MS, offerTimeoutMs };
    const onLeading = (isLeading: boolean): void => leading.push(isLeading);
    await runMaster(
      { store, clock: systemClock, log, masterId: masterIdOf(id), settings, onLeading },
      abort.signal,
    );
  };
  const ended = run();
  return {
    log,
    leading,
    store,
    stop: async () => {
      abort.abort();
      // A call that waits for a Redis that is gone ends with the store.
      const closing = setTimeout(() => void store.close(), 1500);
      await ended;
      clearTimeout(closing);
      await store.close();
    },
  };
}

export async function startRedisScene(
  url: string,
  options: SceneMasterOptions = {},
): Promise<RedisScene> {
  const master = startSceneMaster(url, options);
  const agent = startScriptedAgent(openStore(url, 'agent'), 'a1');
  const framework = await startScriptedFramework(openStore(url, 'framework'), { name: 'shop' });
  await agent.received('AgentRegistered');
  await framework.called('registered');
  const used = new Set<string>();
  const registrations = (): number =>
    framework.callbacks.seen.filter(({ name }) => name === 'reregistered').length;
  const attempt = async (taskId: string): Promise<MessageOf<'RunTask'> | undefined> => {
    const offer = await framework.offered(
      ({ offerId }) => !used.has(offerId) && !isRescinded(framework, offerId),
    );
    used.add(offer.offerId);
    framework.driver.launchTasks(offer.offerId, [taskInfo(taskId)]);
    const refused = framework.callbacks.first(
      (each) => each.name === 'status' && each.status.taskId === taskId,
    );
    const started = agent.received('RunTask', ({ task }) => task.taskId === taskId);
    // What was sent in a session that has ended is not heard of again; a framework asks, or launches anew.
    const again = framework.callbacks.count(
      registrations() + 1,
      ({ name }) => name === 'reregistered',
    );
    return Promise.race([started, refused.then(() => undefined), again.then(() => undefined)]);
  };
  return {
    master,
    agent,
    framework,
    runTask: async (name) => {
      // An offer may have been taken back while its acceptance was on the way: then the next one is tried.
      let tries = 1;
      let run = await attempt(name);
      for (; !run; tries += 1) run = await attempt(`${name}.${String(tries)}`);
      const { taskId } = run.task;
      const { agentId } = agent;
      const { frameworkId } = framework.driver;
      const more = { agentId, launchId: run.launchId };
      const status = taskStatus(frameworkId, taskId, 'TASK_FINISHED', more);
      agent.mailbox.send({ type: 'StatusUpdate', status });
      await framework.updated(taskId, 'TASK_FINISHED');
    },
    stop: async () => {
      await framework.stop();
      await agent.stop();
      await master.stop();
    },
  };
}

function isRescinded({ callbacks }: ScriptedFramework, offerId: string): boolean {
  return callbacks.seen.some((each) => each.name === 'offerRescinded' && each.what === offerId);
}
