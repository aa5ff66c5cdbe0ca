/** For producers: `import { cancelJob } from 'kaon/bullmq'`. Everything else a producer does with BullMQ itself. */
export { cancelJob, cancelKey } from './cancel.ts';
export type { CancelConnection, CancelWish } from './cancel.ts';
export type { CommandJob, KaonFields } from './job-data.ts';
