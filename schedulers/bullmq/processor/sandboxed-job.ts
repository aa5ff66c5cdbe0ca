/**
 * The job object of a processor: what BullMQ gives to its sandboxed processors (`ChildProcessor.wrapJob`, `SandboxedJob`).
 * What writes is done when it has been handed over; what asks waits for the answer as long as the job runs.
 */
import type { ProcessorCall } from '../processor-messages.ts';
import { toJson } from './json.ts';

/** How the job object speaks to the scheduler. */
export interface JobChannel {
  /** Resolves when the call has left this process. */
  tell(call: ProcessorCall): Promise<void>;
  /** Resolves with the answer's value. */
  ask(call: ProcessorCall): Promise<unknown>;
}

type Fields = Readonly<Record<string, unknown>>;

/** @param fields the JSON of a job, as BullMQ's `asJSONSandbox` makes it */
export function sandboxedJob(fields: Fields, channel: JobChannel): Record<string, unknown> {
  const tell = async (call: ProcessorCall): Promise<void> => {
    // For its words: what the channel would say of a value that it cannot write is no help.
    toJson(call, `the argument of ${call.call}`);
    await channel.tell(call);
  };
  const ask = async (call: ProcessorCall): Promise<unknown> => {
    toJson(call, `the argument of ${call.call}`);
    return channel.ask(call);
  };
  const job: Record<string, unknown> = {
    ...fields,
    data: parse(fields['data']),
    returnValue: parse(fields['returnvalue']),
    async updateProgress(value: unknown) {
      job['progress'] = value;
      await tell({ call: 'updateProgress', value });
    },
    log: async (row: unknown) => tell({ call: 'log', rows: [String(row)] }),
    updateData: async (data: unknown) => {
      await tell({ call: 'updateData', data });
      job['data'] = data;
    },
    // Tokens are BullMQ's: there is but one, and the scheduler has it.
    moveToDelayed: async (timestamp: number, _token?: string) => {
      await ask({ call: 'moveToDelayed', timestamp: Number(timestamp) });
    },
    moveToWait: async (_token?: string) => {
      await ask({ call: 'moveToWait' });
    },
    moveToWaitingChildren: async (_token?: string, options?: unknown) =>
      ask({ call: 'moveToWaitingChildren', options }),
    getChildrenValues: async () => ask({ call: 'getChildrenValues' }),
    getIgnoredChildrenFailures: async () => ask({ call: 'getIgnoredChildrenFailures' }),
    getDependenciesCount: async (options?: unknown) =>
      ask({ call: 'getDependenciesCount', options }),
    getDependencies: async (options?: unknown) => ask({ call: 'getDependencies', options }),
  };
  return job;
}

/** As BullMQ does: a job without data has an empty object. */
function parse(text: unknown): unknown {
  return JSON.parse(typeof text === 'string' && text !== '' ? text : '{}');
}
