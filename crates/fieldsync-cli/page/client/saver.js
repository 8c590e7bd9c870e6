// Saves what the user types: one PATCH at a time for each field of each record. Of the values typed meanwhile, only the
// latest is sent next.
//
// A value without an answer (a network error, a 5xx) is retried until there is one, even if a newer value waits: otherwise
// the first request could arrive after the newer value, and overwrite it.

/**
 * @typedef {number | string} RecordId
 *
 * @typedef {{ name: 'saving' }
 *   | { name: 'retrying', why: string, retryAt: number }
 *   | { name: 'saved', value: unknown, key: string, record: any }
 *   | { name: 'refused', value: unknown, problem: import('./rest.js').Problem }} SaveState
 *   `record` is the server's reply to the edit
 *
 * @typedef {object} Options
 * @property {import('./retrier.js').Retrier} retrier
 * @property {(id: RecordId) => string} urlOf
 * @property {() => string} makeKey
 * @property {(id: RecordId, field: string, state: SaveState) => void} onState
 *   `saved` and `refused` only for the latest value, when no newer one waits
 */

export class FieldSaver {
  #options;
  /** @type {Map<string, { next: { value: unknown } | undefined }>} the fields that are being saved, with the value that waits */
  #busy = new Map();

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
  }

  /** Whether a value has no answer yet. */
  get hasUnsaved() {
    return this.#busy.size > 0;
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   * @param {unknown} value
   */
  save(id, field, value) {
    const slot = JSON.stringify([id, field]);
    const queue = this.#busy.get(slot);
    if (queue !== undefined) {
      queue.next = { value };
      return;
    }
    this.#busy.set(slot, { next: { value } });
    this.#work(id, field, slot);
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   * @param {string} slot
   */
  async #work(id, field, slot) {
    const { makeKey, onState, retrier, urlOf } = this.#options;
    const queue = this.#busy.get(slot);
    while (queue.next !== undefined) {
      const { value } = queue.next;
      queue.next = undefined;
      onState(id, field, { name: 'saving' });
      const key = makeKey();
      const answer = await retrier.untilAnswered(
        { method: 'PATCH', url: urlOf(id), key, body: { [field]: value } },
        (waiting) => onState(id, field, { name: 'retrying', ...waiting }),
      );
      if (queue.next !== undefined) continue; // A newer value follows, whatever the answer to this one is.
      this.#busy.delete(slot);
      if (answer.kind === 'done') onState(id, field, { name: 'saved', value, key, record: answer.record });
      else onState(id, field, { name: 'refused', value, problem: answer.problem });
    }
  }
}
