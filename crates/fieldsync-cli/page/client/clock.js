// Time and randomness, in one object that tests replace.

/**
 * @typedef {object} Clock
 * @property {() => number} now  milliseconds since 1970
 * @property {() => number} random  at least 0, below 1
 * @property {(callback: () => void, milliseconds: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 */

/** @type {Clock} */
export const systemClock = {
  now: () => Date.now(),
  random: () => Math.random(),
  // Browsers refuse to call setTimeout as a method of another object, hence the arrow functions.
  setTimeout: (callback, milliseconds) => setTimeout(callback, milliseconds),
  clearTimeout: (timer) => clearTimeout(timer),
};
