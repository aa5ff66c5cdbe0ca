/** Label of the framework behind a `kaon run`: the name of its tasks, by which `kaon why` finds those that wait. */
export const TASK_LABEL = 'task';
