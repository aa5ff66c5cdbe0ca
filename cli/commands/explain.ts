/** `kaon explain`: what would become of something that is needed, before anybody asks for it. */
import { KaonError } from '../../protocol/errors.ts';
import type { NeedExplanation, PossibleNeed } from '../../protocol/explanation.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import { describeNeed } from '../need-view.ts';
import { askLeader } from '../operator.ts';
import type { ListOptions } from '../options.ts';
import { printJson } from '../print.ts';

/** `kaon explain`. */
export interface ExplainOptions extends ListOptions {
  readonly need: PossibleNeed;
}

/** @returns the exit code: 1 if not all units would fit @throws as `askLeader` */
export async function explain({ need, ...options }: ExplainOptions): Promise<number> {
  return withStore(options, { name: 'explain' }, async (store) => {
    const message = { type: 'Explain', need } as const;
    const answer = await askLeader(store, { message, what: 'ask what fits', answer: 'Explained' });
    const explained = answer.need;
    if (!explained) {
      throw new KaonError('not-taken', 'the master that leads is too old for that question');
    }
    if (options.json) printJson(explained);
    else process.stdout.write(`${verdictOf(explained)}\n${describeNeed(explained, options.wide)}`);
    return isRoomFor(explained) ? EXIT_OK : EXIT_NO_ROOM;
  });
}

/** Not all of it would fit. */
const EXIT_NO_ROOM = 1;

function isRoomFor({ count, fits = 0 }: NeedExplanation): boolean {
  return fits >= count;
}

function verdictOf(explained: NeedExplanation): string {
  return isRoomFor(explained) ? 'it could be offered now' : 'it could not be offered now';
}
