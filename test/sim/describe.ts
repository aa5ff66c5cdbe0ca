/** Messages and events in a few words, for the event log. */
import type { Message } from '../../protocol/messages.ts';
import type { ClusterEvent } from '../../protocol/records.ts';
import type { TaskStatus } from '../../protocol/task.ts';

export function describeMessage(message: Message): string {
  return `${message.type}${detailOf(message)}`;
}

function detailOf(message: Message): string {
  switch (message.type) {
    case 'RegisterFramework':
      return ` ${message.framework.frameworkId} session ${message.session}`;
    case 'RegisterAgent':
      return ` session ${message.session} of ${message.node} with [${message.tasks.map((task) => `${task.taskId} ${task.launchId} ${task.state}`).join(', ')}], executors [${message.executors.map(({ launchId }) => launchId).join(', ')}], leader seen ${message.leaderSeen?.epoch ?? 'none'}, ${message.ended.length} ended`;
    case 'LaunchTasks':
      return ` on ${message.offerIds.join(',')}: ${message.tasks.map((task) => (task as { taskId?: string }).taskId ?? '?').join(',')}`;
    case 'DeclineOffers':
      return ` ${message.offerIds.join(',')}`;
    case 'StatusUpdate':
      return ` ${describeStatus(message.status)}`;
    case 'StatusUpdateAcknowledgement':
      return ` ${message.taskId} ${message.updateId}`;
    case 'KillTask':
      return ` ${message.frameworkId}/${message.taskId} ${message.launchId ?? ''} by ${message.by}`;
    case 'AgentRegistered':
    case 'FrameworkRegistered':
      return ` by ${message.master.masterId} in epoch ${message.master.epoch}`;
    case 'ReconcileTasks':
      return ` [${message.taskIds.join(',')}]`;
    case 'AgentError':
    case 'FrameworkError':
      return ` ${message.code}`;
    case 'ResourceOffers':
      return ` ${message.offers.map((offer) => offer.offerId).join(',')}`;
    case 'RescindResourceOffer':
      return ` ${message.offerId}`;
    case 'RunTask':
      return ` ${message.framework.frameworkId}/${message.task.taskId} launch ${message.launchId} ${message.task.executor?.executorId ?? ''} ${message.executorLaunchId ?? ''} ${message.task.groupId ?? ''}`;
    case 'ShutdownExecutor':
    case 'ExitedExecutor':
    case 'ExecutorLost':
      return ` ${message.executorId} ${'launchId' in message ? (message.launchId ?? '') : message.agentId}`;
    case 'ResizeTask':
    case 'TaskResized':
      return ` ${message.taskId} ${message.launchId ?? ''} ${message.resizeId} ${JSON.stringify(message.resources ?? {})} ${'error' in message ? (message.error ?? '') : ''}`;
    case 'ContainerShrink':
      return ` ${message.launchId} ${message.isDelayed ? 'delayed' : 'done'} ${message.limitMib} ${message.neededMib}`;
    default:
      return '';
  }
}

export function describeStatus(status: TaskStatus): string {
  const { frameworkId, taskId, state, reason = '', updateId = 'no ack', launchId = '' } = status;
  return `${frameworkId}/${taskId} ${launchId} ${state} ${reason} (${updateId})`;
}

export function describeEvent(event: ClusterEvent): string {
  const { type, frameworkId, taskId, agentId, offerId, executorId, launchId, state, reason } =
    event;
  return [type, frameworkId, taskId, agentId, offerId, executorId, launchId, state, reason]
    .filter((part) => part !== undefined)
    .join(' ');
}
