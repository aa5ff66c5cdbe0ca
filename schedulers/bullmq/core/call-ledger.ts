/**
 * The calls of one task, on the side that asks: numbered 1, 2, ..., one under way at a time, sent again until it is
 * answered. What waits behind it is joined as far as nobody could see a difference. Pure.
 */

/** Until a call is sent again, after it was sent once, twice, ... */
const RESEND_FIRST_MS = 1000;
const RESEND_MAX_MS = 10_000;
/** Rows that wait, characters of JSON. Of a processor that logs faster than it is heard the rest is counted only. */
const ROWS_MAX_CHARS = 1_048_576;

/** As much of a call as matters here. */
export interface CallLike {
  readonly call: string;
  readonly rows?: readonly string[];
}

/** Calls that write something each of its own: which of two different ones came first cannot be told afterwards. */
const WRITES: readonly string[] = ['log', 'updateProgress', 'updateData'];

/** A call with its number. */
export interface Numbered<C> {
  readonly sequence: number;
  readonly call: C;
}

interface Waiting<C> {
  call: C;
  /** Of who waits for the answer; undefined if nobody does. */
  readonly askId: number | undefined;
  /** All that were joined; empty for other calls. */
  readonly rows: string[];
  /** Of their JSON. */
  chars: number;
  droppedRows: number;
}

interface Outstanding<C> extends Numbered<C> {
  readonly askId: number | undefined;
  sentCount: number;
  resendAtMs: number;
}

/** Changed in place by the functions of this file. Times are monotonic milliseconds. */
export interface CallLedger<C extends CallLike> {
  lastSequence: number;
  outstanding: Outstanding<C> | undefined;
  readonly waiting: Waiting<C>[];
}

/** No calls yet. */
export function createCallLedger<C extends CallLike>(): CallLedger<C> {
  return { lastSequence: 0, outstanding: undefined, waiting: [] };
}

/**
 * Adds a call. It waits until those before it are answered.
 *
 * @param askId names who waits for the answer; undefined: nobody does
 */
export function addCall<C extends CallLike>(ledger: CallLedger<C>, call: C, askId?: number): void {
  const earlier = askId === undefined ? waitingLike(ledger, call.call) : undefined;
  if (earlier === undefined) {
    const rows = [...(call.rows ?? [])];
    ledger.waiting.push({ call, askId, rows, chars: charsOf(rows), droppedRows: 0 });
  } else if (call.rows === undefined) earlier.call = call;
  else addRows(earlier, call.rows);
}

/** The one of the same kind that waits with nothing behind it but calls that it can pass. */
function waitingLike<C extends CallLike>(
  { waiting }: CallLedger<C>,
  kind: string,
): Waiting<C> | undefined {
  if (!WRITES.includes(kind)) return undefined;
  for (const entry of waiting.toReversed()) {
    if (entry.askId !== undefined || !WRITES.includes(entry.call.call)) return undefined;
    if (entry.call.call === kind) return entry;
  }
  return undefined;
}

function addRows<C extends CallLike>(entry: Waiting<C>, rows: readonly string[]): void {
  const chars = charsOf(rows);
  if (entry.droppedRows > 0 || entry.chars + chars > ROWS_MAX_CHARS) {
    entry.droppedRows += rows.length;
    return;
  }
  entry.chars += chars;
  entry.rows.push(...rows);
}

function charsOf(rows: readonly string[]): number {
  return rows.reduce((sum, row) => sum + JSON.stringify(row).length + 1, 0);
}

/**
 * What has to be sent now: a call that is under way for too long, or the next one if none is. Counts as sent.
 *
 * @returns undefined if there is nothing to send before `resendAtMs(ledger)`
 */
export function takeSendable<C extends CallLike>(
  ledger: CallLedger<C>,
  nowMs: number,
): Numbered<C> | undefined {
  ledger.outstanding ??= nextOf(ledger, nowMs);
  const { outstanding } = ledger;
  if (!outstanding || outstanding.resendAtMs > nowMs) return undefined;
  const pauseMs = Math.min(RESEND_FIRST_MS * 2 ** outstanding.sentCount, RESEND_MAX_MS);
  outstanding.sentCount += 1;
  outstanding.resendAtMs = nowMs + pauseMs;
  return { sequence: outstanding.sequence, call: outstanding.call };
}

function nextOf<C extends CallLike>(
  ledger: CallLedger<C>,
  nowMs: number,
): Outstanding<C> | undefined {
  const entry = ledger.waiting.shift();
  if (!entry) return undefined;
  ledger.lastSequence += 1;
  const { askId } = entry;
  const sequence = ledger.lastSequence;
  return { sequence, call: finalCall(entry), askId, sentCount: 0, resendAtMs: nowMs };
}

function finalCall<C extends CallLike>({ call, rows, droppedRows }: Waiting<C>): C {
  if (call.rows === undefined) return call;
  if (droppedRows === 0) return { ...call, rows: [...rows] };
  const notice = `(${String(droppedRows)} rows of log were dropped: more than ${String(ROWS_MAX_CHARS)} characters waited)`;
  return { ...call, rows: [...rows, notice] };
}

/** When to look again; undefined: when something happens. */
export function resendAtMs<C extends CallLike>({ outstanding }: CallLedger<C>): number | undefined {
  return outstanding?.resendAtMs;
}

/** The number of the call that is under way. */
export function outstandingSequence<C extends CallLike>({
  outstanding,
}: CallLedger<C>): number | undefined {
  return outstanding?.sequence;
}

/**
 * The call of that number is done; one that is not under way has been before.
 *
 * @returns undefined if that is no news; else who waits for the answer, if anybody does
 */
export function takeAnswered<C extends CallLike>(
  ledger: CallLedger<C>,
  sequence: number,
): { readonly askId: number | undefined } | undefined {
  const { outstanding } = ledger;
  if (outstanding?.sequence !== sequence) return undefined;
  ledger.outstanding = undefined;
  return { askId: outstanding.askId };
}

/** All that is not known to be done, in order, with the numbers that it has or is going to have. */
export function unansweredOf<C extends CallLike>(ledger: CallLedger<C>): Numbered<C>[] {
  const { outstanding, waiting, lastSequence } = ledger;
  const first = outstanding ? [{ sequence: outstanding.sequence, call: outstanding.call }] : [];
  const rest = waiting.map((entry, index) => ({
    sequence: lastSequence + 1 + index,
    call: finalCall(entry),
  }));
  return [...first, ...rest];
}
