// The state of one field that both a user and a stream of changes edit: it decides which of the two values is shown.
// It has no access to the page, which reports events and shows `shown`.

export class Draft {
  #latest;
  /** @type {string | undefined} the typed value, while it takes precedence */
  #typed = undefined;
  /** The server has not replied to the typed value yet. */
  #pending = false;
  #refused = false;
  /** @type {string | undefined} the key of the saved write, until its change comes on the stream */
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

  /** @returns {string | undefined} a newer value from elsewhere that is not shown while the user is in the field */
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
   * @param {string | undefined} awaitedKey  undefined if its change has come on the stream already
   */
  saved(value, awaitedKey) {
    if (value !== this.#typed) return; // The user has typed more since then.
    this.#pending = false;
    // A write that changed nothing makes no change on the stream.
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
   * The stream has a value, which may be new.
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

  /** The stream is live: a change that has not come by now is part of a snapshot or of a folded page. */
  caughtUp() {
    this.#awaitedKey = undefined;
    this.#settle();
  }

  /** @param {boolean} focused */
  focus(focused) {
    this.#focused = focused;
    this.#settle();
  }

  /** Discards a refused value. Returns false if there is none. */
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
