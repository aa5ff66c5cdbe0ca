/** What an operator's `Explain` is answered with. */
import { taskKey } from '../../protocol/ids.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { StepContext } from './effects.ts';
import { explainTask } from './why-task.ts';
import { explain, explainPossible } from './why.ts';

/** @returns without anything in it, if nothing is known of what was asked for */
export function answerOf(
  cx: StepContext,
  { frameworkId, taskId, need }: MessageOf<'Explain'>,
): MessageOf<'Explained'> {
  const type = 'Explained';
  if (frameworkId === undefined) {
    return { type, ...(need && { need: explainPossible(cx, need) }) };
  }
  if (taskId !== undefined) {
    const task = cx.state.tasks.get(taskKey(frameworkId, taskId));
    return { type, ...(task && { task: explainTask(cx, task) }) };
  }
  const framework = cx.state.frameworks.get(frameworkId);
  return { type, ...(framework && { explanation: explain(cx, framework) }) };
}
