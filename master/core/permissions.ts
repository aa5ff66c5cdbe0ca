/**
 * What a principal may say: the whole table, and nothing else. Pure; the shell has verified that the message comes from the
 * principal. In an open cluster there is none, and nobody asks here.
 */
import type { FrameworkId } from '../../protocol/ids.ts';
import { agentName } from '../../protocol/keys.ts';
import type { Message, MessageOf, MessageType } from '../../protocol/messages.ts';
import type { Principal, PrincipalKind } from '../../protocol/principals.ts';
import { ANY } from '../../protocol/principals.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import { rolesOf } from '../../protocol/task.ts';

/** As what a client speaks: the first part of its name. */
export type Speaker = 'framework' | 'agent' | 'operator';

const NOBODY: readonly Speaker[] = [];

/** As what each message may be said to a master. A new message has no place here before somebody has thought about it. */
export const SPEAKERS: Readonly<Record<MessageType, readonly Speaker[]>> = {
  RegisterFramework: ['framework'],
  UnregisterFramework: ['framework', 'operator'],
  DeactivateFramework: ['framework'],
  DetachFramework: ['framework'],
  LaunchTasks: ['framework'],
  DeclineOffers: ['framework'],
  ReviveOffers: ['framework'],
  SuppressOffers: ['framework'],
  AnswerInverseOffer: ['framework'],
  ReconcileTasks: ['framework'],
  RequestResources: ['framework'],
  UpdateOfferConstraints: ['framework'],
  StatusUpdateAcknowledgement: ['framework'],
  ShutdownExecutor: ['framework'],
  FrameworkToExecutor: ['framework'],
  KillTask: ['framework', 'operator'],
  ResizeTask: ['framework', 'operator'],
  MarkAgentGone: ['operator'],
  UpdateRole: ['operator'],
  DrainAgent: ['operator'],
  UndrainAgent: ['operator'],
  DeactivateAgent: ['operator'],
  ReactivateAgent: ['operator'],
  Reserve: ['operator'],
  Unreserve: ['operator'],
  Explain: ['operator'],
  RegisterAgent: ['agent'],
  UnregisterAgent: ['agent'],
  StatusUpdate: ['agent'],
  ExitedExecutor: ['agent'],
  TaskResized: ['agent'],
  ContainerShrink: ['agent'],
  DirectoryRemoved: ['agent'],
  FrameworkRegistered: NOBODY,
  ResourceOffers: NOBODY,
  RescindResourceOffer: NOBODY,
  LostAgent: NOBODY,
  InverseOffer: NOBODY,
  RescindInverseOffer: NOBODY,
  FrameworkError: NOBODY,
  AgentRegistered: NOBODY,
  AgentError: NOBODY,
  RequestRefused: NOBODY,
  Explained: NOBODY,
  RunTask: NOBODY,
  RemoveDirectory: NOBODY,
  UpdateFramework: NOBODY,
  ShutdownFramework: NOBODY,
  ReadOutput: NOBODY,
  ExecutorLost: NOBODY,
  ExecutorToFramework: NOBODY,
};

/** As what each kind may speak. */
export const VOICES: Readonly<Record<PrincipalKind, readonly Speaker[]>> = {
  viewer: [],
  operator: ['operator'],
  framework: ['framework'],
  agent: ['agent'],
  admin: ['framework', 'agent', 'operator'],
};

/** A message, and the client's name that it came with. */
export interface Said {
  readonly from: string;
  readonly message: Message;
}

/**
 * Why a principal may not say that.
 *
 * @param ownerOf name of the principal under which a framework has registered; undefined if it has not, or to nobody's name
 * @returns words for the event log and for whoever said it; undefined if it may
 */
export function problemOfSaying(
  principal: Principal,
  { from, message }: Said,
  ownerOf: (frameworkId: FrameworkId) => string | undefined,
): string | undefined {
  const { name, kind } = principal;
  const speaker = speakerOf(from);
  if (speaker === undefined) return `${JSON.stringify(from)} is no name of a client`;
  if (!SPEAKERS[message.type].includes(speaker)) {
    return `${message.type} is not for ${articleOf(speaker)} ${speaker} to say`;
  }
  if (!VOICES[kind].includes(speaker)) {
    return `token ${name} is ${articleOf(kind)} ${kind}, which may not speak as ${articleOf(speaker)} ${speaker}`;
  }
  if (kind === 'agent') return problemOfAgent(principal, from);
  return kind === 'framework' ? problemOfFramework(principal, message, ownerOf) : undefined;
}

/** An agent's token is for one node: whoever has taken it cannot pass for another. */
function problemOfAgent({ name, agentId }: Principal, from: string): string | undefined {
  if (agentId !== undefined && from === agentName(agentId)) return undefined;
  return `token ${name} is of agent ${agentId ?? 'nobody'}, and may not speak as ${from}`;
}

function problemOfFramework(
  principal: Principal,
  message: Message,
  ownerOf: (frameworkId: FrameworkId) => string | undefined,
): string | undefined {
  const { name } = principal;
  const frameworkId = frameworkOf(message);
  const owner = frameworkId === undefined ? undefined : ownerOf(frameworkId);
  if (owner !== undefined && owner !== name) {
    return `framework ${String(frameworkId)} was registered with token ${owner}, not with ${name}`;
  }
  return message.type === 'RegisterFramework' ? problemOfRole(principal, message) : undefined;
}

function problemOfRole(
  { name, roles }: Principal,
  { framework }: MessageOf<'RegisterFramework'>,
): string | undefined {
  if (roles.includes(ANY)) return undefined;
  const role = rolesOf(framework).find((one) => !roles.includes(one));
  if (role === undefined) return undefined;
  return `token ${name} is for role ${roles.join(', ')}, not for role ${role}`;
}

/** The framework that a message speaks of. */
function frameworkOf(message: Message): FrameworkId | undefined {
  if (message.type === 'RegisterFramework') return message.framework.frameworkId;
  return 'frameworkId' in message ? message.frameworkId : undefined;
}

/**
 * Why a principal may not launch a task, for the user that it names. One that names none runs as what its agent chooses.
 *
 * @returns words for its framework; undefined if it may
 */
export function problemOfUser(
  { name, kind, users }: Principal,
  task: TaskInfo,
): string | undefined {
  if (kind === 'admin') return undefined;
  const { command, executor } = task;
  for (const user of [command?.user, executor?.user, executor?.command?.user]) {
    if (user === undefined || users.includes(user)) continue;
    if (users.includes(ANY) && !isRoot(user)) continue;
    const allowed = users.length === 0 ? 'no user at all' : users.join(', ');
    return `token ${name} may not run tasks as user ${user}, it may name ${allowed}`;
  }
  return undefined;
}

/** As systemd.exec(5), User= takes it: a name, or a number. */
function isRoot(user: string): boolean {
  return user === 'root' || /^\+?0+$/.test(user);
}

/** @returns as what the client of that name speaks */
export function speakerOf(from: string): Speaker | undefined {
  const [first = ''] = from.split(':', 1);
  return first === 'framework' || first === 'agent' || first === 'operator' ? first : undefined;
}

function articleOf(noun: string): 'a' | 'an' {
  return /^[aeiou]/.test(noun) ? 'an' : 'a';
}
