// One field between a person who types and a stream of changes: which of the two is shown, and when the one gives way
// to the other. Pure; the page tells it what happens and shows `shown`.

export class Draft {
  #latest;
  /** @type {string | undefined} what was typed, for as long as it takes precedence */
  #typed = undefined;
  /** What was typed has not been answered by the server yet. */
  #pending = false;
  #refused = false;
  /** @type {string | undefined} the key of the saved write that the stream has not shown us yet */
  #awaitedKey = undefined;
  #focused = false;

  /** @param {string} latest */
  constructor(latest) {
    this.#latest = latest;
  }

  /** @returns {string} */
  get shown() {
    return this.#typed ?? this.#latest;
  }

  /** @returns {string | undefined} a newer value from elsewhere, held back while the person is still in the field */
  get heldBack() {
    const waiting = this.#typed === undefined || this.#pending || this.#refused || this.#awaitedKey !== undefined;
    return waiting || this.#latest === this.#typed ? undefined : this.#latest;
  }

  /** @param {string} value */
  type(value) {
    this.#typed = value;
    this.#pending = true;
    this.#refused = false;
    this.#awaitedKey = undefined;
  }

  /**
   * @param {string} value
   * @param {string | undefined} awaitedKey  undefined: the stream has shown this write already
   */
  saved(value, awaitedKey) {
    if (value !== this.#typed) return; // More has been typed since.
    this.#pending = false;
    // A write that changed nothing has no echo.
    this.#awaitedKey = value === this.#latest ? undefined : awaitedKey;
    this.#settle();
  }

  /** @param {string} value */
  refused(value) {
    if (value !== this.#typed) return;
    this.#pending = false;
    this.#refused = true;
  }

  /**
   * The stream has a (possibly new) value.
   *
   * @param {string} value
   * @param {string[]} keys
   */
  receive(value, keys) {
    const movedOn = value !== this.#latest || keys.includes(this.#awaitedKey ?? '');
    if (movedOn) this.#awaitedKey = undefined;
    this.#latest = value;
    this.#settle();
  }

  /** The stream is up to date: an echo that has not come by now is part of a snapshot or of a folded page. */
  caughtUp() {
    this.#awaitedKey = undefined;
    this.#settle();
  }

  /** @param {boolean} focused */
  focus(focused) {
    this.#focused = focused;
    this.#settle();
  }

  /** Gives up a refused value. */
  discard() {
    if (!this.#refused) return false;
    this.#refused = false;
    this.#typed = undefined;
    return true;
  }

  #settle() {
    const kept = this.#pending || this.#refused || this.#focused || this.#awaitedKey !== undefined;
    if (!kept) this.#typed = undefined;
  }
}
