// The edits of a table's cells from Enter until the change arrives, and what a cell shows meanwhile.

import { reasonsFor, summaryOf } from './client/problem.js';

/**
 * @typedef {import('./client/saver.js').SaveState} SaveState
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {number | string} RecordId
 *
 * @typedef {object} Edit
 * @property {unknown} value  what the user entered, or after `saved` what the server stored
 * @property {'saving' | 'retrying' | 'saved' | 'refused'} state
 * @property {string} [text]  what was typed, if it is no value of the field
 * @property {string} [message]  why it was refused, or is retried
 */

export class Edits {
  /** @type {Map<string, Edit>} */
  #bySlot = new Map();
  #isEchoed;

  /** @param {(key: string) => boolean} isEchoed  whether the change of the write with this key has arrived */
  constructor(isEchoed) {
    this.#isEchoed = isEchoed;
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   * @returns {Edit | undefined}
   */
  of(id, field) {
    return this.#bySlot.get(slotOf(id, field));
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   * @param {unknown} value
   */
  begin(id, field, value) {
    this.#bySlot.set(slotOf(id, field), { value, state: 'saving' });
  }

  /**
   * What was typed can't be sent.
   *
   * @param {RecordId} id
   * @param {string} field
   * @param {string} text
   * @param {string} message
   */
  refuse(id, field, text, message) {
    this.#bySlot.set(slotOf(id, field), { value: undefined, text, state: 'refused', message });
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   * @param {SaveState} state
   */
  take(id, field, state) {
    const slot = slotOf(id, field);
    const value = this.#bySlot.get(slot)?.value;
    switch (state.name) {
      case 'saving':
        if (this.#bySlot.get(slot)?.state !== 'saving') this.#bySlot.set(slot, { value, state: 'saving' });
        break;
      case 'retrying':
        this.#bySlot.set(slot, { value, state: 'retrying', message: `Not saved yet: ${state.why}.` });
        break;
      case 'saved':
        // The reply shows what was stored until the change arrives. None arrives if the record had this value already.
        if (this.#isEchoed(state.key)) this.#bySlot.delete(slot);
        else this.#bySlot.set(slot, { value: state.record?.[field] ?? null, state: 'saved' });
        break;
      case 'refused': {
        const message = reasonsFor(state.problem, field) ?? summaryOf(state.problem);
        this.#bySlot.set(slot, { value, state: 'refused', message });
      }
    }
  }

  /**
   * A change arrived: what the stream has is newer than the replies to edits.
   *
   * @param {RecordId} id
   */
  received(id) {
    const prefix = `${JSON.stringify(id)} `;
    for (const [slot, { state }] of this.#bySlot) {
      if (state === 'saved' && slot.startsWith(prefix)) this.#bySlot.delete(slot);
    }
  }

  /**
   * @param {RecordId} id
   * @param {string} field
   */
  discard(id, field) {
    this.#bySlot.delete(slotOf(id, field));
  }
}

/**
 * @param {RecordId} id
 * @param {string} field
 */
const slotOf = (id, field) => `${JSON.stringify(id)} ${field}`;
