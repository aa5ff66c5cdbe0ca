/** Waiting for things to happen instead of for time to pass. */
import type { Log, LogFields } from '../../io/log.ts';

export interface Watch<T> {
  readonly seen: readonly T[];
  push(item: T): void;
  /** The first item, seen or to come, for which `isIt` holds. */
  first(isIt: (item: T) => boolean): Promise<T>;
  /** Resolves when there are that many. */
  count(howMany: number, isIt?: (item: T) => boolean): Promise<T[]>;
}

export function createWatch<T>(): Watch<T> {
  const seen: T[] = [];
  const looking = new Set<() => void>();
  const count = (howMany: number, isIt: (item: T) => boolean = () => true): Promise<T[]> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = seen.filter(isIt);
        if (found.length < howMany) return;
        looking.delete(look);
        resolve(found);
      };
      looking.add(look);
      look();
    });
  return {
    seen,
    push: (item) => {
      seen.push(item);
      for (const look of [...looking]) look();
    },
    count,
    first: async (isIt) => {
      const [item] = await count(1, isIt);
      return item as T;
    },
  };
}

export interface LogLine {
  readonly event: string;
  readonly fields: LogFields;
}

/** A log whose lines can be waited for. */
export function createWatchedLog(): Log & { readonly lines: Watch<LogLine> } {
  const lines = createWatch<LogLine>();
  const write = (event: string, fields: LogFields = {}): void => {
    lines.push({ event, fields });
  };
  return { debug: write, info: write, warn: write, error: write, lines };
}
