// Saves what is typed: for each field of each record one PATCH at a time; what is typed meanwhile is sent after it,
// and of that only the latest.
//
// A value whose fate is unknown (no answer, 5xx) is sent again until it is known, even where a newer one waits: the
// first request may still be under way somewhere, and arriving after the newer value it would overwrite it.

/**
 * @typedef {number | string} RecordId
 *
 * @typedef {{ name: 'saving' }
 *   | { name: 'retrying', why: string, retryAt: number }
 *   | { name: 'saved', value: string, key: string }
 *   | { name: 'refused', value: string, problem: import('./rest.js').Problem }} SaveState
 *
 * @typedef {object} Options
 * @property {import('./retrier.js').Retrier} retrier
 * @property {(id: RecordId) => string} urlOf
 * @property {() => string} makeKey
 * @property {(id: RecordId, field: string, state: SaveState) => void} onState
 *   `saved` and `refused` only for the latest value, when nothing is waiting behind it
 */

export class FieldSaver {
  #options;
  /** @type {Map<string, { next: { value: string } | undefined }>} fields being saved, with what waits behind */
  #busy = new Map();

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
  }

  /** Whether there is a value that the server has not answered yet. */
  get hasUnsaved() {
    return this.#busy.size > 0;
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   * @param {string} value
   */
  save(id, field, value) {
    const place = JSON.stringify([id, field]);
    const queue = this.#busy.get(place);
    if (queue !== undefined) {
      queue.next = { value };
      return;
    }
    this.#busy.set(place, { next: { value } });
    this.#work(id, field, place);
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   * @param {string} place
   */
  async #work(id, field, place) {
    const { makeKey, onState, retrier, urlOf } = this.#options;
    const queue = this.#busy.get(place);
    while (queue.next !== undefined) {
      const { value } = queue.next;
      queue.next = undefined;
      onState(id, field, { name: 'saving' });
      const key = makeKey();
      const answer = await retrier.untilAnswered(
        { method: 'PATCH', url: urlOf(id), key, body: { [field]: value } },
        (waiting) => onState(id, field, { name: 'retrying', ...waiting }),
      );
      if (queue.next !== undefined) continue; // Whatever became of it, a newer value decides.
      this.#busy.delete(place);
      if (answer.kind === 'done') onState(id, field, { name: 'saved', value, key });
      else onState(id, field, { name: 'refused', value, problem: answer.problem });
    }
  }
}
