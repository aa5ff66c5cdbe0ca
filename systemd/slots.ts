/**
 * A counting lock: bounds how many starts are under way, and lets one piece of work run while there is none.
 */
export interface Slots {
  /** Waits for a slot; the function that it resolves to gives the slot back, once. */
  enter(): Promise<() => void>;
  /** Waits until every slot is free, and runs `work` while it holds them all. */
  alone(work: () => Promise<void>): Promise<void>;
}

interface Waiting {
  readonly count: number;
  readonly go: () => void;
}

/** First come, first served, so that `alone` is not starved by a stream of starts. */
export function createSlots(total: number): Slots {
  let free = total;
  const queue: Waiting[] = [];

  const admit = (): void => {
    for (let next = queue[0]; next !== undefined && next.count <= free; next = queue[0]) {
      queue.shift();
      free -= next.count;
      next.go();
    }
  };
  const take = async (count: number): Promise<() => void> => {
    await new Promise<void>((go) => {
      queue.push({ count, go });
      admit();
    });
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      free += count;
      admit();
    };
  };

  return {
    enter: () => take(1),
    alone: async (work) => {
      const leave = await take(total);
      try {
        await work();
      } finally {
        leave();
      }
    },
  };
}
