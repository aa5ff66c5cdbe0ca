/** An executor whose tasks do nothing: what is measured is everything else. */
import { ExecutorDriver } from '../executor/index.ts';

/** Runs until the agent ends it. */
export async function runNoopExecutor(): Promise<void> {
  const driver = new ExecutorDriver({
    launchTask: (own, { task }) => {
      own.sendStatusUpdate({ taskId: task.taskId, state: 'TASK_RUNNING' });
      own.sendStatusUpdate({ taskId: task.taskId, state: 'TASK_FINISHED' });
    },
    killTask: () => undefined,
  });
  await driver.run();
}
