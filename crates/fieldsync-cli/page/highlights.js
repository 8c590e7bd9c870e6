// Cells that changed a moment ago.

// As in page.css.
const DURATION = 2000;

export class Highlights {
  /** @type {WeakMap<HTMLElement, unknown>} */
  #timers = new WeakMap();
  #clock;

  /** @param {import('./client/clock.js').Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /** @param {HTMLElement} cell */
  add(cell) {
    this.#clock.clearTimeout(this.#timers.get(cell));
    if (cell.classList.contains('changed')) restart(cell);
    else cell.classList.add('changed');
    this.#timers.set(cell, this.#clock.setTimeout(() => cell.classList.remove('changed'), DURATION));
  }
}

/** @param {HTMLElement} cell */
function restart(cell) {
  for (const animation of cell.getAnimations()) animation.currentTime = 0;
}
