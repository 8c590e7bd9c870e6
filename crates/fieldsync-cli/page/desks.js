// The edits of each table. They go on when another table is shown.

import { FieldSaver } from './client/saver.js';
import { Edits } from './edits.js';
import { recordPath } from './list_page.js';

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {{ edits: Edits, saver: FieldSaver }} Desk
 *
 * @typedef {object} DeskOptions
 * @property {import('./client/idempotency_key.js').OwnKeys} keys
 * @property {import('./client/retrier.js').Retrier} retrier
 * @property {(table: Table, id: number | string, field: string, state: string, edit: import('./edits.js').Edit | undefined) => void} onEdit
 */

export class Desks {
  /** @type {Map<string, Desk>} by the names of the collections */
  #desks = new Map();
  #options;

  /** @param {DeskOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /** @param {Table} table */
  of(table) {
    const desk = this.#desks.get(table.name) ?? this.#open(table);
    this.#desks.set(table.name, desk);
    return desk;
  }

  /** Whether a value has no answer yet. */
  get hasUnsaved() {
    return [...this.#desks.values()].some(({ saver }) => saver.hasUnsaved);
  }

  /**
   * @param {Table} table
   * @returns {Desk}
   */
  #open(table) {
    const { keys, onEdit, retrier } = this.#options;
    const edits = new Edits((key) => keys.isEchoed(key));
    const saver = new FieldSaver({
      retrier,
      urlOf: (id) => recordPath(table.name, id),
      makeKey: () => keys.make(),
      onState: (id, field, state) => {
        edits.take(id, field, state);
        onEdit(table, id, field, state.name, edits.of(id, field));
      },
    });
    return { edits, saver };
  }
}
