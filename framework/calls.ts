/**
 * The calls of a driver as messages. What the master would not take at all is refused here, at once and with an error that
 * names it, because the author of a scheduler has no other way to hear of it. Whether a task may run, is the master's to say:
 * a bad one comes back as TASK_ERROR and harms no other.
 *
 * Pure. Each message is a copy: what the caller does with its arguments later changes nothing that was said.
 */
import { decodeMessage, decodeTask } from '../protocol/codec.ts';
import { messageOf } from '../protocol/errors.ts';
import { ExecutorInfo, isSameExecutor } from '../protocol/executor.ts';
import type { FrameworkId, OfferId, TaskGroupId } from '../protocol/ids.ts';
import { TaskId } from '../protocol/ids.ts';
import {
  DATA_MAX_CHARS,
  ENTRY_MAX_BYTES,
  OFFERS_PER_CALL_MAX,
  TASKS_PER_LAUNCH_MAX,
} from '../protocol/limits.ts';
import type { Message, MessageOf, MessageType } from '../protocol/messages.ts';
import type { OfferConstraints } from '../protocol/offer-constraints.ts';
import { strangeRole } from '../protocol/offer-constraints.ts';
import type { Filters, FrameworkInfo } from '../protocol/task.ts';
import { rolesOf, TaskInfo } from '../protocol/task.ts';
import type { ResourceDescription, TaskDescription } from './descriptions.ts';
import { driverError } from './driver-errors.ts';
import { unknownFields } from './unknown-fields.ts';

/** Requests of one call; what is over it is asked for when some of it has been placed. */
export const REQUESTS_PER_CALL_MAX = 1000;

/** A message is alone in its entry if it is that large, between two brackets. */
const MESSAGE_MAX_CHARS = ENTRY_MAX_BYTES - 2;

/** One offer, or several of one agent. */
export type OfferIds = OfferId | readonly OfferId[];

/** A message as it is handed in: its type is right, the rest is what the caller has given. */
type Unchecked<T extends MessageType> = { readonly type: T } & {
  readonly [K in keyof MessageOf<T>]?: unknown;
};

/**
 * Accepting offers, with or without tasks.
 *
 * @throws KaonError `no-offers`, `too-many`, `too-large`, `invalid-argument`
 */
export function launchMessage(
  frameworkId: FrameworkId,
  offerIds: OfferIds,
  tasks: readonly TaskDescription[],
  filters?: Partial<Filters>,
): MessageOf<'LaunchTasks'> {
  const list = offerList(offerIds);
  if (list.length === 0) throw driverError('no-offers', 'a launch needs at least one offer');
  if (!Array.isArray(tasks)) throw driverError('invalid-argument', 'the tasks are not a list');
  limit('tasks of one launch', tasks.length, TASKS_PER_LAUNCH_MAX);
  const unchecked = { type: 'LaunchTasks', frameworkId, offerIds: list, tasks, filters } as const;
  const message = checkedMessage<'LaunchTasks'>(unchecked);
  message.tasks.forEach(checkTask);
  return message;
}

/**
 * The same with tasks that stand or fall together.
 *
 * @throws KaonError as `launchMessage`, and `no-tasks`, `mixed-executors`
 */
export function launchGroupMessage(
  frameworkId: FrameworkId,
  offerIds: OfferIds,
  group: { readonly groupId: TaskGroupId; readonly tasks: readonly TaskDescription[] },
  filters?: Partial<Filters>,
): MessageOf<'LaunchTasks'> {
  const { groupId, tasks } = group;
  if (!Array.isArray(tasks)) throw driverError('invalid-argument', 'the tasks are not a list');
  if (tasks.length === 0) throw driverError('no-tasks', 'a group has at least one task');
  const inGroup = tasks.map((task: TaskDescription) => ({ ...task, groupId }));
  const message = launchMessage(frameworkId, offerIds, inGroup, filters);
  checkOneExecutor(inGroup);
  return message;
}

/** @returns undefined if there is nothing to decline. @throws KaonError `too-many`, `invalid-argument` */
export function declineMessage(
  frameworkId: FrameworkId,
  offerIds: OfferIds,
  filters?: Partial<Filters>,
): Message | undefined {
  const list = offerList(offerIds);
  if (list.length === 0) return undefined;
  return checkedMessage({ type: 'DeclineOffers', frameworkId, offerIds: list, filters });
}

/** @throws KaonError `too-many`, `invalid-argument` */
export function requestMessage(
  frameworkId: FrameworkId,
  requests: readonly ResourceDescription[],
): Message {
  if (!Array.isArray(requests)) {
    throw driverError('invalid-argument', 'the requests are not a list');
  }
  limit('requests of one call', requests.length, REQUESTS_PER_CALL_MAX);
  return checkedMessage({ type: 'RequestResources', frameworkId, requests });
}

/** @throws KaonError `invalid-argument`, also for a role that the framework does not have */
export function constraintsMessage(
  info: FrameworkInfo,
  offerConstraints: OfferConstraints,
): MessageOf<'UpdateOfferConstraints'> {
  const { frameworkId } = info;
  const type = 'UpdateOfferConstraints';
  const message = checkedMessage<typeof type>({ type, frameworkId, offerConstraints });
  const strange = strangeRole(message.offerConstraints, rolesOf(info));
  if (strange === undefined) return message;
  throw driverError('invalid-argument', `${strange} is none of the roles of ${frameworkId}`);
}

/** @returns one message, or several for very many tasks. @throws KaonError `invalid-argument` */
export function reconcileMessages(
  frameworkId: FrameworkId,
  taskIds: readonly string[],
): readonly Message[] {
  if (!Array.isArray(taskIds)) throw driverError('invalid-argument', 'the task ids are not a list');
  const messages: Message[] = [];
  let from = 0;
  // At least one: no ids at all mean all tasks.
  do {
    const some = taskIds.slice(from, from + TASKS_PER_LAUNCH_MAX);
    messages.push(checkedMessage({ type: 'ReconcileTasks', frameworkId, taskIds: some }));
    from += TASKS_PER_LAUNCH_MAX;
  } while (from < taskIds.length);
  return messages;
}

/** @throws KaonError `data-too-large`, `invalid-argument` */
export function executorMessage(
  message: Unchecked<'FrameworkToExecutor'>,
): MessageOf<'FrameworkToExecutor'> {
  const { data } = message;
  if (typeof data === 'string' && data.length > DATA_MAX_CHARS) {
    throw driverError(
      'data-too-large',
      `data of ${String(data.length)} characters, limit ${String(DATA_MAX_CHARS)}`,
    );
  }
  return checkedMessage<'FrameworkToExecutor'>(message);
}

/**
 * A message as the wire takes it.
 *
 * @throws KaonError `too-large`, or `invalid-argument` with what is wrong, field by field
 */
export function checkedMessage<T extends MessageType>(message: Unchecked<T>): MessageOf<T> {
  const text = textOf(message);
  if (text.length > MESSAGE_MAX_CHARS) {
    throw driverError(
      'too-large',
      `${message.type} of ${String(text.length)} characters, limit ${String(MESSAGE_MAX_CHARS)}: take fewer at a time`,
    );
  }
  const copy: unknown = JSON.parse(text);
  const decoded = decodeMessage(copy);
  if (!decoded.ok) throw driverError('invalid-argument', decoded.message);
  const unknown = unknownFields(copy, decoded.value);
  if (unknown.length > 0) {
    throw driverError('invalid-argument', `${message.type} has no field ${unknown.join(', ')}`);
  }
  return decoded.value as MessageOf<T>;
}

function textOf(message: { readonly type: MessageType }): string {
  try {
    return JSON.stringify(message);
  } catch (cause) {
    const why = `${message.type} cannot be written as JSON: ${messageOf(cause)}`;
    throw driverError('invalid-argument', why, { cause });
  }
}

function offerList(offerIds: OfferIds): readonly OfferId[] {
  const list = typeof offerIds === 'string' ? [offerIds] : offerIds;
  if (!Array.isArray(list))
    throw driverError('invalid-argument', 'the offers are not a list of ids');
  limit('offers of one call', list.length, OFFERS_PER_CALL_MAX);
  return list as readonly OfferId[];
}

/** That it has an id, for without one nothing can be said of it; and no field that there is not. */
function checkTask(task: unknown, index: number): void {
  const refuse = (what: string): never => {
    throw driverError('invalid-argument', `task ${String(index)} of the launch ${what}`);
  };
  if (typeof task !== 'object' || task === null) refuse('is not an object');
  const { taskId } = task as { taskId?: unknown };
  const id = TaskId.safeParse(taskId);
  if (!id.success) {
    refuse(`has no valid id: ${id.error.issues.map(({ message }) => message).join('; ')}`);
  }
  const decoded = decodeTask(task);
  // What is wrong with the values of one that is not valid, the master says.
  const unknown = unknownFields(task, decoded.ok ? decoded.value : knownPart(task as object));
  if (unknown.length > 0) refuse(`(${String(taskId)}) has no field ${unknown.join(', ')}`);
}

function knownPart(task: object): object {
  return Object.fromEntries(Object.entries(task).filter(([name]) => name in TaskInfo.shape));
}

function checkOneExecutor(tasks: readonly TaskDescription[]): void {
  const [first, ...others] = tasks.map((task, index) => {
    const parsed = ExecutorInfo.safeParse(task.executor);
    if (parsed.success) return parsed.data;
    const issues = parsed.error.issues.map(
      ({ path, message }) => `${['executor', ...path.map(String)].join('.')}: ${message}`,
    );
    throw driverError(
      'invalid-argument',
      `task ${String(index)} of the group needs an executor: ${issues.join('; ')}`,
    );
  });
  const other = others.find((each) => first && !isSameExecutor(each, first));
  if (!first || !other) return;
  throw driverError(
    'mixed-executors',
    `the tasks of a group have one executor; here are ${first.executorId} and ${
      other.executorId === first.executorId ? 'another of the same id' : other.executorId
    }`,
  );
}

function limit(what: string, count: number, max: number): void {
  if (count <= max) return;
  throw driverError('too-many', `${String(count)} ${what}, limit ${String(max)}`);
}
