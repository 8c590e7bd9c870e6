// A clock for tests, which moves only when a test says so.

export class FakeClock {
  #now = 1_000_000;
  #timers = new Map();
  #last = 0;
  /** The value of `random`: 0 for the shortest delays, nearly 1 for the longest. */
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

  /** Moves the time, and runs timers in order, with promises in between. */
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

/** Resolves when every promise that can settle has settled. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));
