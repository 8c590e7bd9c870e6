// The time between the button "Delete" and the request, in which the user can undo the deletion.

import { systemClock } from './client/clock.js';

const TIME_TO_UNDO = 5000;

export class Deletion {
  #clock;
  #due;
  /** @type {unknown} */
  #timer = undefined;
  #onTick;
  #onDue;

  /**
   * @param {object} options
   * @param {(secondsLeft: number) => void} options.onTick
   * @param {() => void} options.onDue
   * @param {import('./client/clock.js').Clock} [options.clock]
   */
  constructor({ onTick, onDue, clock = systemClock }) {
    this.#clock = clock;
    this.#onTick = onTick;
    this.#onDue = onDue;
    this.#due = clock.now() + TIME_TO_UNDO;
    this.#tick();
  }

  cancel() {
    this.#clock.clearTimeout(this.#timer);
  }

  #tick() {
    const left = this.#due - this.#clock.now();
    if (left <= 0) return this.#onDue();
    this.#onTick(Math.ceil(left / 1000));
    this.#timer = this.#clock.setTimeout(() => this.#tick(), left % 1000 || 1000);
  }
}
