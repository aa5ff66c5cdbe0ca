/** Who may say what: the whole table, each kind and each message, and what narrows a kind. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Speaker } from '../../../master/core/permissions.ts';
import {
  problemOfSaying,
  problemOfUser,
  SPEAKERS,
  speakerOf,
  VOICES,
} from '../../../master/core/permissions.ts';
import type { Message, MessageType } from '../../../protocol/messages.ts';
import { Message as MessageSchema } from '../../../protocol/messages.ts';
import type { PrincipalKind } from '../../../protocol/principals.ts';
import { PRINCIPAL_KINDS } from '../../../protocol/principals.ts';
import { executorInfo, executorTask, frameworkInfo, taskInfo } from '../../support/builders.ts';
import { principal } from '../../support/principals.ts';

const TYPES: readonly MessageType[] = MessageSchema.options.map(
  (option) => option.shape.type.value,
);
const CLIENTS: Readonly<Record<Speaker, string>> = {
  framework: 'framework:f1',
  agent: 'agent:a1',
  operator: 'operator:ann@desk.1',
};

/** As much of a message as permissions look at. */
const messageOf = (type: MessageType): Message =>
  ({ type, frameworkId: 'f1', agentId: 'a1', framework: frameworkInfo('f1') }) as never;

/** What each kind may say at all, in whatever name: written down once more, so that no slip of the table goes unseen. */
const OF_FRAMEWORKS: readonly MessageType[] = [
  'RegisterFramework',
  'UnregisterFramework',
  'DeactivateFramework',
  'DetachFramework',
  'LaunchTasks',
  'DeclineOffers',
  'ReviveOffers',
  'SuppressOffers',
  'AnswerInverseOffer',
  'ReconcileTasks',
  'RequestResources',
  'UpdateOfferConstraints',
  'StatusUpdateAcknowledgement',
  'ShutdownExecutor',
  'FrameworkToExecutor',
  'KillTask',
  'ResizeTask',
];
const OF_AGENTS: readonly MessageType[] = [
  'RegisterAgent',
  'UnregisterAgent',
  'StatusUpdate',
  'ExitedExecutor',
  'TaskResized',
  'ContainerShrink',
  'DirectoryRemoved',
];
const OF_OPERATORS: readonly MessageType[] = [
  'KillTask',
  'ResizeTask',
  'MarkAgentGone',
  'UpdateRole',
  'Explain',
  'DrainAgent',
  'UndrainAgent',
  'DeactivateAgent',
  'ReactivateAgent',
  'Reserve',
  'Unreserve',
  'UnregisterFramework',
];
const MAY: Readonly<Record<PrincipalKind, Readonly<Record<Speaker, readonly MessageType[]>>>> = {
  viewer: { framework: [], agent: [], operator: [] },
  operator: { framework: [], agent: [], operator: OF_OPERATORS },
  framework: { framework: OF_FRAMEWORKS, agent: [], operator: [] },
  agent: { framework: [], agent: OF_AGENTS, operator: [] },
  admin: { framework: OF_FRAMEWORKS, agent: OF_AGENTS, operator: OF_OPERATORS },
};

test('every message has a place in the table', () => {
  expect(Object.keys(SPEAKERS).sort()).toEqual([...TYPES].sort());
  expect(Object.keys(VOICES).sort()).toEqual([...PRINCIPAL_KINDS].sort());
});

describe.each(PRINCIPAL_KINDS)('%s', (kind) => {
  const agent = kind === 'agent' && { agentId: 'a1' as never };
  const who = principal('p', kind, { ...agent });
  test.each(TYPES)('saying %s is answered as the table has it', (type) => {
    const speakers = Object.keys(CLIENTS) as Speaker[];
    const allowed = speakers.filter((speaker) => {
      const said = { from: CLIENTS[speaker], message: messageOf(type) };
      return problemOfSaying(who, said, () => undefined) === undefined;
    });
    expect(allowed).toEqual(speakers.filter((speaker) => MAY[kind][speaker].includes(type)));
  });
});

describe('the token of an agent', () => {
  const said = { from: 'agent:a2', message: messageOf('StatusUpdate') };
  test('does not pass for another node', () => {
    expect(problemOfSaying(principal('a1', 'agent'), said, () => undefined)).toBe(
      'token a1 is of agent a1, and may not speak as agent:a2',
    );
  });

  test('is named in the record, whatever the name of the token', () => {
    const other = principal('rack7', 'agent', { agentId: 'a2' as never });
    expect(problemOfSaying(other, said, () => undefined)).toBeUndefined();
  });
});

describe('the token of a framework', () => {
  const register = (role: string): Message => ({
    type: 'RegisterFramework',
    framework: frameworkInfo('f1', { role }),
    session: 's1' as never,
  });
  const from = 'framework:f1';

  test('registers with its roles, and with no other', () => {
    const ci = principal('ci', 'framework', { roles: ['ci', 'web'] });
    const problems = ['ci', 'web', '*', 'db'].map((role) =>
      problemOfSaying(ci, { from, message: register(role) }, () => undefined),
    );
    expect(problems).toEqual([
      undefined,
      undefined,
      'token ci is for role ci, web, not for role *',
      'token ci is for role ci, web, not for role db',
    ]);
  });

  test('acts for no framework that another token has registered, not even by registering it again', () => {
    const ci = principal('ci', 'framework');
    const problems = [register('*'), messageOf('KillTask')].map((message) =>
      problemOfSaying(ci, { from, message }, () => 'shop'),
    );
    const words = 'framework f1 was registered with token shop, not with ci';
    expect(problems).toEqual([words, words]);
  });

  test('of an admin takes over any framework', () => {
    const admin = principal('root', 'admin');
    expect(problemOfSaying(admin, { from, message: register('db') }, () => 'shop')).toBeUndefined();
  });
});

describe('users of tasks', () => {
  const asUser = (user: string): ReturnType<typeof taskInfo> =>
    taskInfo('t1', { command: { argv: ['true'], environment: {}, user } });
  const may = (users: readonly string[], user: string): boolean =>
    problemOfUser(principal('ci', 'framework', { users: [...users] }), asUser(user)) === undefined;

  test('are those of the list', () => {
    expect([may(['ann', 'bob'], 'bob'), may(['ann'], 'bob'), may([], 'bob')]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test('are root only if the list has it by name, whatever else it has', () => {
    expect(['root', '0', '00', '000'].filter((user) => may(['*'], user))).toEqual([]);
    expect([may(['*'], 'bob'), may(['root'], 'root'), may(['*', 'root'], 'root')]).toEqual([
      true,
      true,
      true,
    ]);
  });

  test('that a task does not name are not asked about', () => {
    expect(problemOfUser(principal('ci', 'framework'), taskInfo('t1'))).toBeUndefined();
  });

  test('are looked for wherever a task may name one', () => {
    const ci = principal('ci', 'framework', { users: ['ann'] });
    const command = { argv: ['e'], environment: {}, user: 'bob' };
    const tasks = [
      executorTask('t1', executorInfo('e1', { user: 'bob' })),
      executorTask('t2', executorInfo('e2', { command })),
    ];
    expect(tasks.map((task) => problemOfUser(ci, task))).toEqual([
      'token ci may not run tasks as user bob, it may name ann',
      'token ci may not run tasks as user bob, it may name ann',
    ]);
  });
});

test('a name that is no client of ours may say nothing', () => {
  fc.assert(
    fc.property(fc.string(), fc.constantFrom(...TYPES), (from, type) => {
      fc.pre(speakerOf(from) === undefined);
      const admin = principal('root', 'admin');
      return (
        problemOfSaying(admin, { from, message: messageOf(type) }, () => undefined) !== undefined
      );
    }),
  );
});
