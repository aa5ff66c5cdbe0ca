import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { FrameworkId } from '../../../framework/index.ts';
import { TaskId } from '../../../protocol/ids.ts';
import {
  jobDigest,
  lockTokenOf,
  readTaskId,
  taskIdOf,
  taskNameOf,
} from '../../../schedulers/bullmq/job-ids.ts';

const REF = { queue: 'bull:mail', jobId: '42', createdAtMs: 1_700_000_000_000 };
const anyRef = fc.record({
  queue: fc.string({ minLength: 1 }),
  jobId: fc.string({ minLength: 1 }),
  createdAtMs: fc.nat(),
});
const anyQueueName = fc.string({ minLength: 1, maxLength: 60 });

describe("the id of a job's task", () => {
  test('says the queue, the job and which start it is', () => {
    expect(taskIdOf(REF, 'mail', 3)).toBe(`mail.42.${jobDigest(REF)}.3`);
  });

  test('is its name and the number of the start', () => {
    expect(taskIdOf(REF, 'mail', 3)).toBe(`${taskNameOf(REF, 'mail')}.3`);
  });

  test('is the same again for the same start, and another one for the next', () => {
    expect(taskIdOf(REF, 'mail', 1)).toBe(taskIdOf({ ...REF }, 'mail', 1));
    expect(taskIdOf(REF, 'mail', 2)).not.toBe(taskIdOf(REF, 'mail', 1));
  });

  test('tells jobs apart whose ids look the same in it', () => {
    const like = { ...REF, jobId: 'ä' };
    const other = { ...REF, jobId: 'ö' };
    expect(readTaskId(taskIdOf(like, 'mail', 1))?.jobLabel).toBe('j_');
    expect(taskIdOf(like, 'mail', 1)).not.toBe(taskIdOf(other, 'mail', 1));
  });

  test('tells the same id in two queues apart', () => {
    expect(jobDigest(REF)).not.toBe(jobDigest({ ...REF, queue: '{bull}:mail' }));
  });

  test('tells a job from one of the same id that was added after its removal', () => {
    expect(jobDigest(REF)).not.toBe(jobDigest({ ...REF, createdAtMs: REF.createdAtMs + 1 }));
  });

  test('can be read back', () => {
    const jobId = 'repeat:tick:1700000000000';
    expect(readTaskId(taskIdOf({ ...REF, jobId }, 'mail', 7))).toEqual({
      queueLabel: 'mail',
      jobLabel: jobId,
      digest: jobDigest({ ...REF, jobId }),
      start: 7,
    });
  });

  test.each(['web.k3x9a2', 'mail.42.1', 'mail.42.SHORT.1', '', 'mail.42.0123456789.x'])(
    'is not what %j is',
    (taskId) => {
      expect(readTaskId(taskId)).toBeUndefined();
    },
  );

  test('is one that the cluster takes, whatever queue and job are called', () => {
    fc.assert(
      fc.property(anyRef, anyQueueName, fc.nat(), (ref, name, start) => {
        const taskId = taskIdOf(ref, name, start);
        expect(TaskId.safeParse(taskId).success).toBe(true);
        expect(readTaskId(taskId)).toMatchObject({ digest: jobDigest(ref), start });
      }),
    );
  });

  test('has the id of a job as it is, if that is of plain letters and not long', () => {
    const plain = fc.stringMatching(/^[A-Za-z0-9][\w:-]{0,55}$/);
    fc.assert(
      fc.property(plain, (jobId) => {
        expect(readTaskId(taskIdOf({ ...REF, jobId }, 'mail', 1))?.jobLabel).toBe(jobId);
      }),
    );
  });
});

test('the lock of a job names the framework that has it', () => {
  expect(lockTokenOf('bullmq.mail' as FrameworkId)).toBe('kaon:bullmq.mail');
});
