// How long to wait before trying again: doubling, bounded, with full jitter, so that a thousand windows
// that lost the same server do not come back in the same moment.

const SHORTEST = 200;
const FIRST_CEILING = 500;
const LAST_CEILING = 10_000;

export class Backoff {
  #random;
  #ceiling = FIRST_CEILING;

  /** @param {() => number} random */
  constructor(random) {
    this.#random = random;
  }

  /** The next delay in milliseconds: 200 to 500 at first, 200 to 10,000 in the end. */
  next() {
    const delay = SHORTEST + this.#random() * (this.#ceiling - SHORTEST);
    this.#ceiling = Math.min(LAST_CEILING, this.#ceiling * 2);
    return delay;
  }

  reset() {
    this.#ceiling = FIRST_CEILING;
  }
}
