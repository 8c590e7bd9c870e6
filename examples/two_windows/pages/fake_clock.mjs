// For tests: time that stands still until it is told to go on.

export class FakeClock {
  #now = 1_000_000;
  #timers = new Map();
  #last = 0;
  /** What `random` gives: 0 makes each delay the shortest, nearly 1 the longest. */
  chance = 0;

  now = () => this.#now;
  random = () => this.chance;
  setTimeout = (callback, milliseconds) => {
    this.#timers.set(++this.#last, { callback, at: this.#now + milliseconds });
    return this.#last;
  };
  clearTimeout = (timer) => {
    this.#timers.delete(timer);
  };

  get pending() {
    return this.#timers.size;
  }

  /** Lets time pass, timers in order, promises in between. */
  async advance(milliseconds) {
    const end = this.#now + milliseconds;
    await settled();
    for (;;) {
      const [next] = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
      if (next === undefined) break;
      const [timer, { callback, at }] = next;
      this.#timers.delete(timer);
      this.#now = at;
      callback();
      await settled();
    }
    this.#now = end;
  }
}

/** Resolves when all promises that can settle by themselves have done so. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));
