/** A processor that does nothing, for BullMQ's child processes and for the warm executors of `kaon bullmq` alike. */
export default async function processor() {
  return undefined;
}
