// Retries a write until the server answers it, with the same key, so that it is applied once at most.

import { Backoff } from './backoff.js';
import { systemClock } from './clock.js';

/**
 * @typedef {import('./rest.js').Write} Write
 * @typedef {import('./rest.js').Answer} Answer
 * @typedef {Exclude<Answer, { kind: 'unknown' }>} FinalAnswer
 * @typedef {{ why: string, retryAt: number }} Waiting
 */

export class Retrier {
  #send;
  #clock;
  /** @type {Set<() => void>} end the waits that may end early */
  #wake = new Set();

  /** @param {{ send: (write: Write) => Promise<Answer>, clock?: import('./clock.js').Clock }} options */
  constructor({ send, clock = systemClock }) {
    this.#send = send;
    this.#clock = clock;
  }

  /**
   * @param {Write} write
   * @param {(waiting: Waiting) => void} onWaiting  before each wait
   * @returns {Promise<FinalAnswer>}
   */
  async untilAnswered(write, onWaiting) {
    const backoff = new Backoff(this.#clock.random);
    for (;;) {
      const answer = await this.#send(write);
      if (answer.kind !== 'unknown') return answer;
      // The delay that the server asks for is a minimum, to which the random delay is added.
      const milliseconds = (answer.retryAfter ?? 0) + backoff.next();
      onWaiting({ why: answer.why, retryAt: this.#clock.now() + milliseconds });
      await this.#wait(milliseconds, answer.retryAfter === undefined);
    }
  }

  /** Ends the waits for which the server gave no delay. Call this when the server is back. */
  tryNow() {
    for (const wake of [...this.#wake]) wake();
  }

  /**
   * @param {number} milliseconds
   * @param {boolean} mayEndEarly
   * @returns {Promise<void>}
   */
  #wait(milliseconds, mayEndEarly) {
    return new Promise((resolve) => {
      const wake = () => {
        this.#clock.clearTimeout(timer);
        this.#wake.delete(wake);
        resolve();
      };
      const timer = this.#clock.setTimeout(wake, milliseconds);
      if (mayEndEarly) this.#wake.add(wake);
    });
  }
}
