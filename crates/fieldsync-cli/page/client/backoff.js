// The delays between attempts: random below a ceiling that doubles up to a limit, so that the windows of a server that was
// restarted do not all reconnect at the same moment.

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

  /** The next delay in milliseconds: at first 200 to 500, in the end 200 to 10,000. */
  next() {
    const delay = SHORTEST + this.#random() * (this.#ceiling - SHORTEST);
    this.#ceiling = Math.min(LAST_CEILING, this.#ceiling * 2);
    return delay;
  }

  reset() {
    this.#ceiling = FIRST_CEILING;
  }
}
