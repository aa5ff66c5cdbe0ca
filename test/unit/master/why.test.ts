import { describe, expect, test } from '@jest/globals';
import { answerOf } from '../../../master/core/why-answer.ts';
import { explain } from '../../../master/core/why.ts';
import type { StepContext } from '../../../master/core/effects.ts';
import type {
  Explanation,
  NeedExplanation,
  PossibleNeed,
  TaskExplanation,
} from '../../../protocol/explanation.ts';
import type { ResourceRequest } from '../../../protocol/task.ts';
import {
  agentIdOf,
  amount,
  frameworkIdOf,
  sessionOf,
  taskIdOf,
  taskInfo,
  taskStatus,
} from '../../support/builders.ts';
import { createMasterBench, type MasterBench } from '../../support/master-bench.ts';

function needs(bench: MasterBench, frameworkId: string, ...requests: ResourceRequest[]): void {
  bench.say(`framework:${frameworkId}`, {
    type: 'RequestResources',
    frameworkId: frameworkIdOf(frameworkId),
    requests,
  });
}

function unit(
  cpus: number,
  memMib: number,
  attributes: Record<string, string> = {},
): ResourceRequest {
  return { resources: amount(cpus, memMib), count: 1, attributes };
}

function contextOf({ state, nowMs }: MasterBench): StepContext {
  return { state, nowMs, effects: [] };
}

function whyOf(bench: MasterBench, frameworkId: string): Explanation {
  const framework = bench.state.frameworks.get(frameworkIdOf(frameworkId));
  if (!framework) throw new Error(`no framework ${frameworkId}`);
  return explain(contextOf(bench), framework);
}

/** `agent code: message` of the first need. */
function reasons(bench: MasterBench, frameworkId: string): string[] {
  const [need] = whyOf(bench, frameworkId).needs;
  return (need?.agents ?? []).map(({ agentId, code, message }) => `${agentId} ${code}: ${message}`);
}

describe('a framework waits because an agent', () => {
  test('has too little, is too small, or has not the attribute', () => {
    const bench = createMasterBench();
    bench.registerFramework('other');
    bench.registerAgent('a1', { resources: amount(4, 4096) });
    bench.launch('other', bench.offerOf('other').offerId, [
      taskInfo('t1', { resources: amount(3, 3840) }),
    ]);
    bench.say('framework:other', { type: 'SuppressOffers', frameworkId: frameworkIdOf('other') });
    for (const offerId of [...bench.state.offers.keys()]) bench.decline('other', offerId, 0);
    bench.registerAgent('a2', { resources: amount(1, 512) });
    bench.registerAgent('a3', { resources: amount(8, 8192), attributes: { rack: 'r2' } });
    bench.registerFramework('f1');
    needs(bench, 'f1', unit(2, 768, { rack: 'r1' }));
    expect(reasons(bench, 'f1')).toEqual([
      'a1 attribute: rack=r1 is wanted, it has none',
      'a2 attribute: rack=r1 is wanted, it has none',
      'a3 attribute: rack=r1 is wanted, it has r2',
    ]);
    needs(bench, 'f1', unit(9, 768));
    expect(reasons(bench, 'f1')[2]).toBe('a3 too-small: it has 8 cpus, 8G at all');
    needs(bench, 'f1', unit(2, 768), unit(2, 768), unit(2, 768), unit(2, 768), unit(2, 768));
    expect(reasons(bench, 'f1').slice(0, 2)).toEqual([
      'a1 too-little: too little by 1 cpus and 512M',
      'a2 too-small: it has 1 cpus, 512M at all',
    ]);
  });

  test('is excluded, or has as much of it in an offer as may be there', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    needs(bench, 'f1', { ...unit(1, 128), count: 2, maxPerAgent: 1, notOn: [agentIdOf('a2')] });
    bench.registerAgent('a1', { resources: amount(4, 4096) });
    bench.registerAgent('a2', { resources: amount(4, 4096) });
    expect(reasons(bench, 'f1')).toEqual([
      'a1 per-agent: as much of it is offered there as may be on one agent',
      'a2 not-on: it is among those that will not do',
    ]);
  });

  test('has room for a part of a gang only', () => {
    // A gang of 3 x 2 cpus on agents of 4 and 1 cpus: 2 would fit.
    const bench = createMasterBench();
    bench.registerFramework('f1');
    needs(bench, 'f1', { ...unit(2, 128), count: 3, gang: true });
    bench.registerAgent('a1', { resources: amount(4, 4096) });
    bench.registerAgent('a2', { resources: amount(1, 4096) });
    expect(whyOf(bench, 'f1').needs[0]).toMatchObject({ count: 3, gangFits: 2 });
    expect(bench.state.offers.size).toBe(0);
  });

  test('is offered to another, who may keep it for a while', () => {
    const bench = createMasterBench();
    bench.registerFramework('slow');
    bench.registerAgent('a1', { resources: amount(4, 4096) });
    bench.wait(10_000);
    bench.registerFramework('f1');
    needs(bench, 'f1', unit(1, 128));
    expect(reasons(bench, 'f1')).toEqual(['a1 offered: offered: 4 cpus, 4G to slow for 20s more']);
  });

  test('was declined by it, and for how long still', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    needs(bench, 'f1', unit(1, 128));
    bench.registerAgent('a1');
    bench.decline('f1', bench.offerOf('f1').offerId, 60_000);
    bench.wait(15_000);
    expect(reasons(bench, 'f1')).toEqual(['a1 declined: declined by it, for 45s more']);
  });

  test('cannot be reached, or is not connected', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.overflow('agent:a1');
    bench.registerFramework('f1');
    needs(bench, 'f1', unit(1, 128));
    expect(reasons(bench, 'f1')).toEqual(['a1 not-connected: its agent is not connected']);
  });
});

describe('a framework waits because', () => {
  test('the quota of its role is exhausted', () => {
    const bench = createMasterBench();
    bench.say('operator:me@here', {
      type: 'UpdateRole',
      requestId: sessionOf('r1'),
      role: 'ci',
      limit: { cpuMillis: 1000 },
      force: false,
    });
    bench.registerFramework('f1', { role: 'ci/x' });
    needs(bench, 'f1', unit(2, 128));
    bench.registerAgent('a1');
    const [need] = whyOf(bench, 'f1').needs;
    expect(need?.quota).toEqual(['quota of role ci exhausted: it holds 0 cpus, 0B of 1 cpus']);
    expect(need?.counts).toEqual({ free: 1 });
  });

  test('it wants nothing, has suppressed offers, or is not there', () => {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    needs(bench, 'f1');
    expect(whyOf(bench, 'f1')).toMatchObject({
      blocked: ['it has said that it needs nothing'],
      needs: [],
    });
    bench.say('framework:f1', { type: 'SuppressOffers', frameworkId: frameworkIdOf('f1') });
    bench.silence('framework:f1');
    expect(whyOf(bench, 'f1').blocked).toEqual([
      'its scheduler is not connected',
      'it has suppressed offers: it wants none until it revives them',
      'it has said that it needs nothing',
    ]);
  });
});

test('an operator who asks is answered in the session that has asked', () => {
  const bench = createMasterBench();
  bench.registerFramework('f1');
  const effects = bench.say(
    'operator:me@here',
    { type: 'Explain', frameworkId: frameworkIdOf('f1') },
    's0hon6hpw9pz',
  );
  expect(effects).toMatchObject([
    { type: 'stream.end', client: 'operator:me@here', farewell: { type: 'Explained' } },
  ]);
});

describe('of a task it is known', () => {
  /** f1 has launched t1 on a1, a2 is there as well. */
  function benchWithTask(): MasterBench {
    const bench = createMasterBench();
    bench.registerFramework('f1');
    bench.registerAgent('a1');
    bench.launch('f1', bench.offerOf('f1').offerId, [taskInfo('t1')], 3_600_000);
    needs(bench, 'f1');
    bench.registerAgent('a2');
    return bench;
  }

  function knownOf(bench: MasterBench, taskId = 't1'): TaskExplanation | undefined {
    const question = { frameworkId: frameworkIdOf('f1'), taskId: taskIdOf(taskId) };
    return answerOf(contextOf(bench), { type: 'Explain', ...question }).task;
  }

  test('that its agent has not said anything of it, and where another one would fit', () => {
    const bench = benchWithTask();
    const known = knownOf(bench);
    expect(known).toMatchObject({
      state: 'TASK_STAGING',
      agentId: 'a1',
      words: ['its launch is on its way: its agent has not said anything of it'],
    });
    expect(known?.needs[0]).toMatchObject({ counts: { free: 2 } });
  });

  test('that it runs, with what it is told and what is wished of it', () => {
    const bench = benchWithTask();
    bench.update('a1', { ...taskStatus('f1', 't1', 'TASK_RUNNING'), message: 'it is up' });
    bench.say('operator:me@here', {
      type: 'DrainAgent',
      requestId: sessionOf('r1'),
      agentId: agentIdOf('a1'),
      inMs: 0,
      deadlineMs: 600_000,
    });
    bench.kill('framework:f1', 'f1', 't1');
    expect(knownOf(bench)).toMatchObject({
      state: 'TASK_RUNNING',
      words: [
        'of its agent nothing is offered: it is being drained',
        'its agent is to be empty in 10m: what is left then is killed',
        'it is up',
        'kill requested by the framework',
      ],
      needs: [],
    });
  });

  test('how it ended, in the words of its certificate', () => {
    const bench = benchWithTask();
    bench.update('a1', {
      ...taskStatus('f1', 't1', 'TASK_FAILED'),
      reason: 'REASON_COMMAND_EXITED',
      message: 'exited with code 3',
      certificate: {
        exitCode: 3,
        startedAtMs: 1000,
        endedAtMs: 3500,
        memoryPeakBytes: 64 * 1024 * 1024,
        memoryLimitBytes: 128 * 1024 * 1024,
        cpuUsec: 1_500_000,
      },
    });
    expect(knownOf(bench)?.words).toEqual([
      'exited with code 3',
      'reason REASON_COMMAND_EXITED',
      'ran for 2.5s, at most 64M of 128M of memory, 1.5s of CPU time',
      'its framework has not acknowledged the end',
    ]);
  });

  test('that its framework is away, and until when its tasks go on', () => {
    const bench = benchWithTask();
    bench.update('a1', taskStatus('f1', 't1', 'TASK_RUNNING'));
    bench.silence('framework:f1');
    expect(knownOf(bench)?.words).toEqual([
      expect.stringMatching(/^its framework is not connected: if it is not back in /),
    ]);
  });

  test('nothing, if there is none of that id', () => {
    expect(knownOf(benchWithTask(), 't9')).toBeUndefined();
  });
});

describe('something that nobody needs yet', () => {
  function wouldFit(bench: MasterBench, need: Partial<PossibleNeed>): NeedExplanation | undefined {
    const all = { role: '*', resources: amount(1, 1024), count: 1, attributes: {}, ...need };
    return answerOf(contextOf(bench), { type: 'Explain', need: all }).need;
  }

  /** Limit or guarantee of a role. */
  function quota(bench: MasterBench, role: string, said: object): void {
    const requestId = sessionOf('r1');
    bench.say('operator:me@here', { type: 'UpdateRole', requestId, role, force: true, ...said });
  }

  test('is held against each agent, and counted in units', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    bench.registerAgent('a2', { attributes: { rack: 'b' } });
    bench.registerAgent('a3', { resources: amount(0.5, 512), attributes: { rack: 'b' } });
    expect(wouldFit(bench, {})).toMatchObject({ counts: { free: 2, 'too-small': 1 }, fits: 8 });
    expect(wouldFit(bench, { attributes: { rack: 'b' } })).toMatchObject({
      counts: { attribute: 1, free: 1, 'too-small': 1 },
      fits: 4,
    });
  });

  test('finds agents drained, deactivated, or not on the whitelist', () => {
    const bench = createMasterBench({ whitelist: ['a*'] });
    for (const agentId of ['a1', 'a2', 'b1']) bench.registerAgent(agentId);
    const requestId = sessionOf('r1');
    bench.say('operator:me@here', {
      type: 'DrainAgent',
      ...{ requestId, agentId: agentIdOf('a1'), inMs: 0 },
    });
    bench.say('operator:me@here', { type: 'DeactivateAgent', requestId, agentId: agentIdOf('a2') });
    const { agents = [], fits } = wouldFit(bench, {}) ?? {};
    expect([fits, ...agents.map(({ code, message }) => `${code}: ${message}`)]).toEqual([
      0,
      'drained: it is being drained',
      'deactivated: an operator has deactivated it',
      'not-whitelisted: it is not on the whitelist of the master',
    ]);
  });

  test('is within the limit of its role and of those above it', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    quota(bench, 'eng', { limit: { cpuMillis: 2500 } });
    expect(wouldFit(bench, { role: 'eng/prod' })).toMatchObject({ fits: 2, quota: [] });
    expect(wouldFit(bench, { role: 'eng/prod', resources: amount(3, 64) })).toMatchObject({
      fits: 0,
      quota: ['quota of role eng exhausted: it holds 0 cpus, 0B of 2.5 cpus'],
    });
  });

  test('is not counted on what is kept for the guarantees of others', () => {
    const bench = createMasterBench();
    bench.registerAgent('a1');
    quota(bench, 'prod', { guarantee: { cpuMillis: 3000 } });
    expect(wouldFit(bench, {})).toMatchObject({ fits: 1 });
    expect(wouldFit(bench, { resources: amount(2, 64) })).toMatchObject({
      fits: 0,
      quota: [
        'kept for the guarantees of other roles: of 4 cpus, 8G that are free, 1 cpus, 8G are left for role *',
      ],
    });
    expect(wouldFit(bench, { role: 'prod/x' })).toMatchObject({ fits: 4 });
  });

  test('fits nowhere where less than the smallest offer is free', () => {
    const bench = createMasterBench({ minimumOffer: amount(1, 16_384) });
    bench.registerAgent('a1');
    expect(wouldFit(bench, {})?.agents).toMatchObject([{ code: 'too-small' }]);
  });

  test('is told at once what is offered to somebody, and to whom', () => {
    const bench = createMasterBench();
    bench.registerFramework('slow');
    bench.registerAgent('a1');
    expect(wouldFit(bench, {})?.agents).toMatchObject([
      { code: 'offered', message: 'offered: 4 cpus, 8G to slow for 30s more' },
    ]);
  });
});
