// The grid of records: its rows, and what changes in them. Focus, keys and editors: grid_focus.js. Cells: cell_view.js.

import { isSame } from './cell_value.js';
import { paintCell } from './cell_view.js';
import { element } from './element.js';
import { kindOf } from './field_kind.js';
import { GridFocus } from './grid_focus.js';
import { Highlights } from './highlights.js';
import { hasAddress } from './list_page.js';

const NO_ADDRESS = 'Read-only: no URL can contain this id.';

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {import('./catalog.js').Field} Field
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {import('./client/records.js').Difference} Difference
 * @typedef {number | string} RecordId
 * @typedef {{ value: unknown } | { text: string, message: string }} Input
 *
 * @typedef {object} GridOptions
 * @property {HTMLElement} container
 * @property {import('./client/clock.js').Clock} clock
 * @property {(id: RecordId, field: string) => import('./edits.js').Edit | undefined} editOf
 * @property {(id: RecordId, field: Field, input: Input) => void} onInput
 * @property {(id: RecordId, field: Field) => void} onDiscard
 * @property {(record: StoredRecord | undefined) => void} onSelect
 */

export class GridView {
  #options;
  #focus;
  #highlights;
  /** @type {Map<RecordId, HTMLTableRowElement>} */
  #rows = new Map();
  /** @type {WeakMap<HTMLTableRowElement, StoredRecord>} */
  #records = new WeakMap();
  /** @type {Field[]} */
  #fields = [];
  #isWritable = false;
  #body = element('tbody');

  /** @param {GridOptions} options */
  constructor(options) {
    this.#options = options;
    this.#highlights = new Highlights(options.clock);
    const { editOf, onDiscard, onInput, onSelect } = options;
    this.#focus = new GridFocus({
      container: options.container,
      recordOf: (row) => this.#records.get(row),
      fieldOf: (cell) => this.#fields[cell.cellIndex - 1],
      editOf,
      onInput,
      onDiscard,
      onSelect,
      repaint: (cell) => this.#paint(cell.closest('tr'), cell.cellIndex - 1),
    });
  }

  /**
   * @param {Table} table
   * @param {StoredRecord[]} records
   */
  show(table, records) {
    this.#focus.reset();
    this.#fields = table.fields;
    this.#isWritable = table.writable;
    this.#rows = new Map();
    this.#body = element('tbody');
    for (const record of records) this.#body.append(this.#newRow(record));
    const label = `Records of ${table.table}`;
    const grid = element('table', { role: 'grid', 'aria-label': label, 'aria-readonly': String(!table.writable) }, headOf(table), this.#body);
    this.#options.container.replaceChildren(grid);
    this.#options.container.scrollTo(0, 0);
    this.#focus.offer(this.#body.rows[0]?.cells[0]);
    this.#options.onSelect(undefined);
  }

  /** Shows nothing. An open editor is closed, without saving. */
  clear() {
    this.#focus.reset();
    this.#rows = new Map();
    this.#options.container.replaceChildren();
    this.#options.onSelect(undefined);
  }

  /**
   * @param {Difference[]} differences
   * @param {RecordId[]} order  all ids of the page
   * @param {(difference: Difference) => boolean} isFromElsewhere
   */
  apply(differences, order, isFromElsewhere) {
    for (const difference of differences) {
      const { id, before, after } = difference;
      const row = this.#rows.get(id);
      if (after === undefined) this.#remove(id);
      else if (row === undefined) this.#insert(after, order, isFromElsewhere(difference));
      else this.#update(row, before, after, isFromElsewhere(difference));
    }
  }

  /**
   * Shows the state of an edit.
   *
   * @param {RecordId} id
   * @param {string} name
   */
  refresh(id, name) {
    const row = this.#rows.get(id);
    const index = this.#fields.findIndex((field) => field.name === name);
    if (row !== undefined && index >= 0) this.#paint(row, index);
  }

  /** @param {StoredRecord} record */
  #newRow(record) {
    const isReachable = hasAddress(record.id);
    const head = element('th', { scope: 'row', role: 'rowheader', class: 'id', tabindex: -1 }, String(record.id));
    if (!isReachable && this.#isWritable) head.append(element('span', { class: 'note' }, NO_ADDRESS));
    const row = element('tr', { role: 'row', 'data-id': record.id }, head);
    this.#rows.set(record.id, row);
    this.#records.set(row, record);
    this.#fields.forEach((field, index) => {
      const attributes = { role: 'gridcell', tabindex: -1, 'data-field': field.name, 'data-kind': kindOf(field) };
      row.append(element('td', { ...attributes, 'aria-readonly': String(!this.#isWritable || !isReachable || field.read_only) }));
      this.#paint(row, index);
    });
    return row;
  }

  /**
   * @param {HTMLTableRowElement} row
   * @param {number} index
   */
  #paint(row, index) {
    const field = this.#fields[index];
    const cell = row.cells[index + 1];
    const record = this.#records.get(row);
    if (!this.#focus.isEditing(cell)) paintCell(cell, field, record[field.name], this.#options.editOf(record.id, field.name));
  }

  /**
   * @param {StoredRecord} record
   * @param {RecordId[]} order
   * @param {boolean} highlight
   */
  #insert(record, order, highlight) {
    const row = this.#newRow(record);
    const next = order.slice(order.indexOf(record.id) + 1).find((id) => this.#rows.has(id));
    this.#body.insertBefore(row, next === undefined ? null : this.#rows.get(next));
    this.#focus.offer(row.cells[0]);
    if (highlight) for (const cell of row.cells) this.#highlights.add(cell);
  }

  /**
   * @param {HTMLTableRowElement} row
   * @param {StoredRecord} before
   * @param {StoredRecord} after
   * @param {boolean} highlight
   */
  #update(row, before, after, highlight) {
    this.#records.set(row, after);
    this.#fields.forEach(({ name }, index) => {
      const cell = row.cells[index + 1];
      const hasChanged = !isSame(before[name], after[name]);
      if (hasChanged) this.#focus.tellOfChange(cell, after[name]);
      this.#paint(row, index);
      if (hasChanged && highlight) this.#highlights.add(cell);
    });
    if (this.#focus.isIn(row)) this.#options.onSelect(after);
  }

  /** @param {RecordId} id */
  #remove(id) {
    const row = this.#rows.get(id);
    if (row === undefined) return;
    this.#focus.leave(row);
    this.#rows.delete(id);
    row.remove();
  }
}

/** @param {Table} table */
function headOf({ fields, key }) {
  const keyText = key.length === 1 && key[0] === 'id' ? '' : key.join(', ');
  const title = (/** @type {string} */ name, /** @type {string} */ type) =>
    [element('span', { class: 'column-name' }, name), element('span', { class: 'column-type' }, type)];
  const cells = fields.map((field) =>
    element('th', { scope: 'col', role: 'columnheader', 'data-kind': kindOf(field) }, ...title(field.name, field.type ?? '')));
  const id = element('th', { scope: 'col', role: 'columnheader', class: 'id' }, ...title('id', keyText));
  return element('thead', {}, element('tr', { role: 'row' }, id, ...cells));
}
