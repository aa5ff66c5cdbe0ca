/** Work on one thing runs one piece after the other, in the order asked for; on different things at the same time. */
export type Turns = <T>(key: string, work: () => Promise<T>) => Promise<T>;

/** Keys are forgotten with the last piece of work. */
export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();

  return async (key, work) => {
    const before = last.get(key);
    // A failure is told to the one who asked for that piece, and does not hold up the next.
    const own = before === undefined ? work() : before.then(work, work);
    last.set(key, own);
    try {
      return await own;
    } finally {
      if (last.get(key) === own) last.delete(key);
    }
  };
}
