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
      return ` session ${message.session} of ${message.node} with [${message.tasks.map((task) => `${task.taskId} ${task.launchId} ${task.state}`).join(', ')}], leader seen ${message.leaderSeen?.epoch ?? 'none'}, ${message.ended.length} ended`;
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
      return ` ${message.framework.frameworkId}/${message.task.taskId} launch ${message.launchId}`;
    default:
      return '';
  }
}

export function describeStatus(status: TaskStatus): string {
  const { frameworkId, taskId, state, reason = '', updateId = 'no ack', launchId = '' } = status;
  return `${frameworkId}/${taskId} ${launchId} ${state} ${reason} (${updateId})`;
}

export function describeEvent(event: ClusterEvent): string {
  const { type, frameworkId, taskId, agentId, offerId, state, reason } = event;
  return [type, frameworkId, taskId, agentId, offerId, state, reason]
    .filter((part) => part !== undefined)
    .join(' ');
}
