/** A secured cluster in the core: who is refused and told, whose tasks go on, and what the event log says of it. */
import { describe, expect, test } from '@jest/globals';
import type { MasterEffect } from '../../../master/core/effects.ts';
import type { EntryProblem } from '../../../master/core/refusals.ts';
import { numberedSession } from '../../../protocol/ids.ts';
import type { PrincipalRecord } from '../../../protocol/principals.ts';
import {
  agentIdOf,
  agentTask,
  frameworkIdOf,
  frameworkInfo,
  taskIdOf,
  taskInfo,
} from '../../support/builders.ts';
import type { MasterBench } from '../../support/master-bench.ts';
import { createMasterBench, events, eventsOf, sent } from '../../support/master-bench.ts';
import { principal, principalRecord, recordsByName } from '../../support/principals.ts';

const ci = principalRecord('ci', 'framework');
const node = principalRecord('a1', 'agent');
const fresh = numberedSession(1_000_000);
const later = numberedSession(2_000_000);

const changed = (bench: MasterBench, ...records: PrincipalRecord[]): MasterEffect[] =>
  bench.happen({ type: 'principals.changed', records: recordsByName(...records), forged: [] });
const refused = (
  bench: MasterBench,
  from: string,
  code: EntryProblem,
  session: string = fresh,
): MasterEffect[] => bench.happen({ type: 'entry.refused', from, session, code });

/** Last words of sessions, as `CLIENT TYPE CODE`. */
const farewells = (effects: readonly MasterEffect[]): string[] =>
  effects.flatMap((effect) => {
    if (effect.type !== 'stream.end' || !effect.farewell) return [];
    const { client, farewell } = effect;
    return [`${client} ${farewell.type} ${'code' in farewell ? farewell.code : ''}`];
  });

/** With framework f1 of the token `ci`, agent a1 of its own token, and task t1 that runs. */
function securedBench(): MasterBench {
  const bench = createMasterBench();
  changed(bench, ci, node);
  bench.principal = node;
  bench.registerAgent('a1', { session: fresh });
  bench.principal = ci;
  bench.registerFramework('f1', {}, fresh);
  bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')]);
  return bench;
}

describe('an entry without a token', () => {
  test('is answered with what to do, each client in its own words', () => {
    const bench = createMasterBench();
    changed(bench);
    const clients = ['framework:f1', 'agent:a1', 'operator:ann@desk.1'];
    expect(
      clients.flatMap((client) => farewells(refused(bench, client, 'unauthenticated'))),
    ).toEqual([
      'framework:f1 FrameworkError unauthenticated',
      'agent:a1 AgentError unauthenticated',
      'operator:ann@desk.1 RequestRefused unauthenticated',
    ]);
  });

  test('in the name of a client that lives harms it in nothing', () => {
    const bench = securedBench();
    const codes: EntryProblem[] = ['unauthenticated', 'forged', 'replayed', 'revoked'];
    const effects = codes.flatMap((code) => [
      ...refused(bench, 'framework:f1', code),
      ...refused(bench, 'agent:a1', code),
    ]);
    expect(effects.filter(({ type }) => type !== 'event.append')).toEqual([]);
    expect(bench.state.frameworks.get(frameworkIdOf('f1'))?.record.state).toBe('active');
  });

  test('of a client that has registered when the cluster was open ends its session, with the reason', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1', {}, fresh);
    bench.registerAgent('a1', { session: fresh });
    changed(bench);
    const effects = [
      ...refused(bench, 'framework:f1', 'unauthenticated'),
      ...refused(bench, 'agent:a1', 'unauthenticated'),
    ];
    expect(farewells(effects)).toEqual([
      'framework:f1 FrameworkError unauthenticated',
      'agent:a1 AgentError unauthenticated',
    ]);
    expect(bench.state.agents.get(agentIdOf('a1'))?.record.session).toBeUndefined();
  });

  test.each(['/requests', '/direct:s1', 'nothing', ''])(
    'in a session called %j is answered nowhere',
    (session) => {
      const bench = createMasterBench();
      changed(bench);
      expect(farewells(refused(bench, 'agent:a1', 'unauthenticated', session))).toEqual([]);
    },
  );

  test.each(['agent:a1/..', 'registry:tasks', 'agent:', 'agent:a\n1', 'x'])(
    'of %j, which is no client, is answered nowhere',
    (client) => {
      const bench = createMasterBench();
      changed(bench);
      expect(farewells(refused(bench, client, 'unauthenticated'))).toEqual([]);
    },
  );

  test('is one event a minute, which counts the others', () => {
    const bench = createMasterBench();
    changed(bench);
    const all = Array.from({ length: 50 }, () => refused(bench, 'framework:f1', 'forged')).flat();
    expect(eventsOf(all)).toHaveLength(1);
    bench.nowMs += 60_000;
    const [next] = eventsOf(refused(bench, 'framework:f1', 'forged'));
    expect(next?.message).toMatch(/; 49 more before$/);
  });
});

describe('a session that this leader has not heard of', () => {
  test('ends, so that its client registers again', () => {
    const bench = securedBench();
    const effects = refused(bench, 'framework:f1', 'stale');
    expect(effects).toContainEqual({
      type: 'session.set',
      client: 'framework:f1',
      session: undefined,
    });
    expect(farewells(effects)).toEqual([]);
  });
});

describe('a principal that may not say something', () => {
  test('is told so, and the event log has who it was', () => {
    const bench = securedBench();
    bench.principal = principal('guest', 'viewer');
    const effects = bench.kill('operator:guest@desk.1', 'f1', 't1');
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
    expect(eventsOf(effects)).toMatchObject([
      { type: 'request.refused', reason: 'forbidden', principal: 'guest' },
    ]);
  });

  test('registers no framework, and its driver gets the reason', () => {
    const bench = securedBench();
    bench.principal = principal('web', 'framework', { roles: ['web'] });
    const effects = bench.registerFramework('f2', { role: 'db' }, later);
    expect(farewells(effects)).toEqual(['framework:f2 FrameworkError forbidden']);
    expect(bench.state.frameworks.has(frameworkIdOf('f2'))).toBe(false);
  });

  test('does not take over the framework of another, which goes on', () => {
    const bench = securedBench();
    bench.principal = principal('web', 'framework');
    const effects = bench.registerFramework('f1', {}, later);
    expect(farewells(effects)).toEqual(['framework:f1 FrameworkError forbidden']);
    expect(bench.state.frameworks.get(frameworkIdOf('f1'))?.record.session).toBe(fresh);
  });

  test('launches nothing for a user that it may not name, and the task says why', () => {
    const bench = securedBench();
    const command = { argv: ['true'], environment: {}, user: 'root' };
    const effects = bench.launch('f1', bench.offerOf('f1').offerId, [
      taskInfo('t2', { command }),
      taskInfo('t3'),
    ]);
    expect(sent(effects, 'framework:f1', 'StatusUpdate').map(({ status }) => status)).toMatchObject(
      [{ taskId: 't2', state: 'TASK_ERROR', reason: 'REASON_TASK_INVALID' }],
    );
    expect(sent(effects, 'agent:a1', 'RunTask').map(({ task }) => task.taskId)).toEqual(['t3']);
  });
});

describe('whose a framework is', () => {
  test('is said by the master and not by itself', () => {
    const bench = securedBench();
    bench.registerFramework('f3', { principal: 'somebody' }, later);
    bench.principal = undefined;
    bench.registerFramework('f4', { principal: 'somebody' }, later);
    const whose = ['f3', 'f4'].map(
      (id) => bench.state.frameworks.get(frameworkIdOf(id))?.record.info.principal,
    );
    expect(whose).toEqual(['ci', undefined]);
  });

  test('goes with each launch, and comes back with an agent when the cluster has forgotten all', () => {
    const before = securedBench();
    const [run] = sent(
      before.launch('f1', before.offerOf('f1').offerId, [taskInfo('t2')]),
      'agent:a1',
      'RunTask',
    );
    const info = run?.framework ?? frameworkInfo('f1');
    const bench = createMasterBench();
    changed(bench, ci, node);
    bench.loseData();
    bench.principal = node;
    const [framework, tasks] = [{ info, detached: false }, [agentTask('f1', 't2')]];
    bench.registerAgent('a1', { session: later, frameworks: [framework], tasks });
    bench.principal = principal('web', 'framework');
    const effects = bench.registerFramework('f1', {}, numberedSession(3_000_000));
    expect(farewells(effects)).toEqual(['framework:f1 FrameworkError forbidden']);
  });
});

describe('a token that ends', () => {
  const revoked = { ...ci, revokedAtMs: 5 };

  test('ends the session of its framework with the reason, and its tasks run on', () => {
    const bench = securedBench();
    const effects = changed(bench, revoked, node);
    expect(farewells(effects)).toEqual(['framework:f1 FrameworkError token-revoked']);
    expect(bench.state.frameworks.get(frameworkIdOf('f1'))?.record.state).toBe('disconnected');
    bench.wait(10 * 604_800_000);
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
    expect(bench.state.frameworks.has(frameworkIdOf('f1'))).toBe(true);
  });

  test('of a framework that is away stops its failover timeout, which a new token starts again', () => {
    const bench = securedBench();
    bench.silence('framework:f1');
    changed(bench, revoked, node);
    bench.wait(604_800_000);
    expect(bench.state.frameworks.has(frameworkIdOf('f1'))).toBe(true);
    changed(bench, { ...ci, generation: 2 }, node);
    bench.principal = { ...ci, generation: 2 };
    bench.registerFramework('f1', {}, later);
    expect(bench.state.frameworks.get(frameworkIdOf('f1'))?.record.state).toBe('active');
    bench.silence('framework:f1');
    bench.wait(604_800_000);
    expect(bench.state.frameworks.has(frameworkIdOf('f1'))).toBe(false);
  });

  test('leaves its tasks to an operator, who may end the framework', () => {
    const bench = securedBench();
    changed(bench, revoked, node);
    bench.principal = principal('op', 'operator');
    const frameworkId = frameworkIdOf('f1');
    const effects = bench.say('operator:op@desk.1', { type: 'UnregisterFramework', frameworkId });
    expect(sent(effects, 'agent:a1', 'ShutdownFramework')).toHaveLength(1);
    expect(eventsOf(effects).at(-1)).toMatchObject({ type: 'framework.removed', principal: 'op' });
  });

  test('ends the session of its agent, and what that runs is not given up', () => {
    const bench = securedBench();
    const effects = changed(bench, ci, { ...node, revokedAtMs: 5 });
    expect(farewells(effects)).toEqual(['agent:a1 AgentError token-revoked']);
    expect(bench.task('f1', 't1')?.state).toBe('TASK_STAGING');
  });

  test('by time ends at the next tick', () => {
    const bench = securedBench();
    changed(bench, { ...ci, expiresAtMs: bench.nowMs + 1000 }, node);
    expect(farewells(bench.wait(999))).toEqual([]);
    expect(farewells(bench.wait(1))).toEqual(['framework:f1 FrameworkError token-expired']);
  });

  test('because a newer one was made ends the session of the old one', () => {
    const bench = securedBench();
    const effects = changed(bench, { ...ci, generation: 2 }, node);
    expect(farewells(effects)).toEqual(['framework:f1 FrameworkError token-rotated']);
  });

  test('that Redis has lost ends the session too, and no task', () => {
    const bench = securedBench();
    expect(farewells(changed(bench, node))).toEqual(['framework:f1 FrameworkError token-unknown']);
    bench.wait(604_800_000);
    expect(bench.task('f1', 't1')?.killRequested).toBeUndefined();
  });
});

describe('the event log', () => {
  const acts: PrincipalRecord['acts'] = [
    { number: 1, type: 'created', by: 'root@m1', atMs: 1 },
    { number: 2, type: 'rotated', by: 'ann@m1', atMs: 2 },
    { number: 3, type: 'revoked', by: 'root@m2', atMs: 3 },
  ];

  test('has each act on a token once, with who did it, also if no master led meanwhile', () => {
    const bench = createMasterBench();
    const said = changed(bench, { ...ci, acts });
    expect(eventsOf(said).map(({ type, name, principal: by }) => [type, name, by])).toEqual([
      ['principal.created', 'ci', 'root@m1'],
      ['principal.rotated', 'ci', 'ann@m1'],
      ['principal.revoked', 'ci', 'root@m2'],
    ]);
    expect(events(changed(bench, { ...ci, acts }))).toEqual([]);
  });

  test('has it once across a failover', () => {
    const bench = createMasterBench();
    changed(bench, { ...ci, acts: acts.slice(0, 2) });
    const next = bench.failOver();
    expect(events(changed(next, { ...ci, acts }))).toEqual(['principal.revoked']);
  });

  test('tells of a record that is forged, once', () => {
    const bench = createMasterBench();
    const event = { type: 'principals.changed', records: new Map(), forged: ['evil'] } as const;
    expect(events(bench.happen(event))).toEqual(['principal.forged']);
    expect(events(bench.happen(event))).toEqual([]);
  });

  test('has who did it in every act of a framework and an operator, and nobody in an open cluster', () => {
    const bench = securedBench();
    bench.principal = principal('op', 'operator');
    const killed = bench.say('operator:op@desk.1', {
      type: 'KillTask',
      frameworkId: frameworkIdOf('f1'),
      taskId: taskIdOf('t1'),
      by: 'operator',
    });
    expect(eventsOf(killed)).toMatchObject([{ type: 'task.kill-requested', principal: 'op' }]);
    const open = createMasterBench();
    expect(eventsOf(open.registerFramework('f1'))[0]).not.toHaveProperty('principal');
  });
});
