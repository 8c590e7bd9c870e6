// The grid of records: rows, the focus that moves through them, and editors. Cells: cell_view.js, cell_editor.js.

import { isSame } from './cell_value.js';
import { CellEditor } from './cell_editor.js';
import { paintCell } from './cell_view.js';
import { element } from './element.js';
import { kindOf } from './field_kind.js';
import { cellAfterKey } from './grid_keys.js';

// As in page.css.
const HIGHLIGHT = 2000;

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {import('./catalog.js').Field} Field
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {number | string} RecordId
 * @typedef {{ element: HTMLTableRowElement, record: StoredRecord }} Row
 *
 * @typedef {object} GridOptions
 * @property {HTMLElement} container
 * @property {import('./client/clock.js').Clock} clock
 * @property {(id: RecordId, field: string) => import('./edits.js').Edit | undefined} editOf
 * @property {(id: RecordId, field: Field, input: { value: unknown } | { text: string, message: string }) => void} onInput
 * @property {(id: RecordId, field: Field) => void} onDiscard
 * @property {(record: StoredRecord | undefined) => void} onSelect
 */

export class GridView {
  #options;
  /** @type {Map<RecordId, Row>} */
  #rows = new Map();
  /** @type {Field[]} */
  #fields = [];
  #isWritable = false;
  #body = element('tbody');
  /** @type {HTMLTableCellElement | undefined} the one that Tab reaches */
  #current = undefined;
  /** @type {CellEditor | undefined} */
  #editor = undefined;
  /** Whether the cell that is being clicked had the focus before: then the click edits it. */
  #hadFocus = false;
  /** @type {WeakMap<Element, unknown>} */
  #highlights = new WeakMap();

  /** @param {GridOptions} options */
  constructor(options) {
    this.#options = options;
    const { container } = options;
    container.addEventListener('keydown', (event) => this.#onKey(event));
    container.addEventListener('focusin', ({ target }) => this.#onFocus(cellOf(target)));
    container.addEventListener('pointerdown', ({ target }) => {
      this.#hadFocus = cellOf(target) === document.activeElement;
    });
    container.addEventListener('click', (event) => this.#onClick(event));
  }

  /**
   * @param {Table} table
   * @param {StoredRecord[]} records
   */
  show(table, records) {
    this.#editor?.close();
    this.#fields = table.fields;
    this.#isWritable = table.writable;
    this.#current = undefined;
    this.#rows = new Map();
    this.#body = element('tbody');
    for (const record of records) this.#body.append(this.#newRow(record).element);
    const grid = element('table', { role: 'grid', 'aria-label': `Records of ${table.table}` }, this.#head(table), this.#body);
    this.#options.container.replaceChildren(grid);
    this.#options.container.scrollTo(0, 0);
    this.#setCurrent(this.#body.rows[0]?.cells[0]);
    this.#options.onSelect(undefined);
  }

  /**
   * @param {import('./client/records.js').Difference[]} differences
   * @param {RecordId[]} order  all ids of the page
   * @param {(difference: import('./client/records.js').Difference) => boolean} isFromElsewhere
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

  /** The record of the cell that has the focus, or had it last. */
  get selected() {
    return this.#current && this.#rowOf(this.#current)?.record;
  }

  /** @param {Table} table */
  #head({ key }) {
    const keyText = key.length === 1 && key[0] === 'id' ? '' : key.join(', ');
    const cells = this.#fields.map((field) =>
      element('th', { scope: 'col', role: 'columnheader', 'data-kind': kindOf(field), class: field.read_only ? 'fixed' : '' },
        element('span', { class: 'column-name' }, field.name), element('span', { class: 'column-type' }, field.type ?? '')));
    const id = element('th', { scope: 'col', role: 'columnheader', class: 'id' },
      element('span', { class: 'column-name' }, 'id'), element('span', { class: 'column-type' }, keyText));
    return element('thead', {}, element('tr', { role: 'row' }, id, ...cells));
  }

  /** @param {StoredRecord} record */
  #newRow(record) {
    const head = element('th', { scope: 'row', role: 'rowheader', class: 'id', tabindex: -1 }, String(record.id));
    const tr = element('tr', { role: 'row', 'data-id': record.id }, head);
    const row = { element: tr, record };
    this.#rows.set(record.id, row);
    this.#fields.forEach((field, index) => {
      const readOnly = !this.#isWritable || field.read_only;
      const kind = kindOf(field);
      tr.append(element('td', { role: 'gridcell', tabindex: -1, 'data-field': field.name, 'data-kind': kind, 'aria-readonly': String(readOnly) }));
      this.#paint(row, index);
    });
    return row;
  }

  /**
   * @param {Row} row
   * @param {number} index
   */
  #paint({ element: tr, record }, index) {
    const field = this.#fields[index];
    const cell = tr.cells[index + 1];
    if (this.#editor?.cell === cell) return;
    paintCell(cell, field, record[field.name], this.#options.editOf(record.id, field.name));
  }

  /**
   * @param {StoredRecord} record
   * @param {RecordId[]} order
   * @param {boolean} highlight
   */
  #insert(record, order, highlight) {
    const row = this.#newRow(record);
    const next = order.slice(order.indexOf(record.id) + 1).find((id) => this.#rows.has(id));
    this.#body.insertBefore(row.element, (next !== undefined && this.#rows.get(next).element) || null);
    if (this.#current === undefined) this.#setCurrent(row.element.cells[0]);
    if (highlight) for (const cell of row.element.cells) this.#highlight(cell);
  }

  /**
   * @param {Row} row
   * @param {StoredRecord} before
   * @param {StoredRecord} after
   * @param {boolean} highlight
   */
  #update(row, before, after, highlight) {
    row.record = after;
    this.#fields.forEach(({ name }, index) => {
      const cell = row.element.cells[index + 1];
      const hasChanged = !isSame(before[name], after[name]);
      if (hasChanged && this.#editor?.cell === cell) this.#editor.tellOfChange(after[name]);
      this.#paint(row, index);
      if (hasChanged && highlight) this.#highlight(cell);
    });
    if (this.selected === after) this.#options.onSelect(after);
  }

  /** @param {RecordId} id */
  #remove(id) {
    const row = this.#rows.get(id);
    if (row === undefined) return;
    if (this.#editor !== undefined && row.element.contains(this.#editor.cell)) this.#editor.close();
    const hadFocus = row.element.contains(document.activeElement);
    if (this.#current !== undefined && row.element.contains(this.#current)) {
      const neighbor = /** @type {HTMLTableRowElement} */ (row.element.nextElementSibling ?? row.element.previousElementSibling);
      this.#setCurrent(neighbor?.cells[this.#current.cellIndex]);
      if (hadFocus) this.#current?.focus();
      this.#options.onSelect(hadFocus ? this.selected : undefined);
    }
    this.#rows.delete(id);
    row.element.remove();
  }

  /** @param {HTMLTableCellElement} cell */
  #highlight(cell) {
    const { clock } = this.#options;
    clock.clearTimeout(this.#highlights.get(cell));
    cell.classList.remove('changed');
    void cell.offsetWidth; // Restarts the animation.
    cell.classList.add('changed');
    this.#highlights.set(cell, clock.setTimeout(() => cell.classList.remove('changed'), HIGHLIGHT));
  }

  /** @param {HTMLTableCellElement | undefined} cell */
  #setCurrent(cell) {
    if (this.#current !== undefined) this.#current.tabIndex = -1;
    this.#current = cell;
    if (cell !== undefined) cell.tabIndex = 0;
  }

  /** @param {HTMLTableCellElement | undefined} cell */
  #onFocus(cell) {
    if (cell === undefined) return;
    this.#setCurrent(cell);
    this.#options.onSelect(this.selected);
  }

  /** @param {MouseEvent} event */
  #onClick({ target }) {
    const cell = cellOf(target);
    if (cell === undefined || this.#editor?.cell === cell) return;
    if (target instanceof HTMLInputElement && target.type === 'checkbox') {
      this.#input(cell, { value: target.checked });
      cell.focus();
    } else if (this.#hadFocus) this.#edit(cell);
    else cell.focus();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const cell = cellOf(event.target);
    if (cell === undefined || event.altKey) return;
    const from = { row: cell.closest('tr').sectionRowIndex, column: cell.cellIndex };
    const to = cellAfterKey(event, from, { rows: this.#body.rows.length, columns: this.#fields.length + 1 });
    const field = this.#fields[cell.cellIndex - 1];
    const isTyping = event.key.length === 1 && !event.ctrlKey && !event.metaKey;
    if (to !== undefined) this.#body.rows[to.row].cells[to.column].focus();
    else if (event.key === ' ' && field !== undefined && kindOf(field) === 'boolean') this.#toggle(cell);
    else if (event.key === 'Enter' || event.key === 'F2') this.#edit(cell);
    else if (event.key === 'Escape' && field !== undefined) this.#options.onDiscard(this.#rowOf(cell).record.id, field);
    else if (isTyping && event.key !== ' ') this.#edit(cell, event.key);
    else return;
    event.preventDefault();
  }

  /** @param {HTMLTableCellElement} cell */
  #toggle(cell) {
    const box = cell.querySelector('input');
    if (cell.getAttribute('aria-readonly') === 'true') return;
    this.#input(cell, { value: box === null ? true : !box.checked });
  }

  /**
   * @param {HTMLTableCellElement | undefined} cell
   * @param {string} [typed]  the letter that began the edit, and replaces the value
   */
  #edit(cell, typed) {
    const field = cell && this.#fields[cell.cellIndex - 1];
    if (field === undefined || cell.getAttribute('aria-readonly') === 'true' || this.#editor?.cell === cell) return;
    const isTyped = !['boolean', 'choice'].includes(kindOf(field));
    if (typed !== undefined && !isTyped) return;
    const { record } = this.#rowOf(cell);
    const edit = this.#options.editOf(record.id, field.name);
    this.#editor = new CellEditor({
      cell,
      field,
      value: edit === undefined ? record[field.name] : edit.value,
      text: typed ?? edit?.text,
      onCommit: (input) => this.#input(cell, input),
      onClose: () => {
        this.#editor = undefined;
        this.#paint(this.#rowOf(cell), cell.cellIndex - 1);
      },
    });
  }

  /**
   * @param {HTMLTableCellElement} cell
   * @param {{ value: unknown } | { text: string, message: string }} input
   */
  #input(cell, input) {
    const row = this.#rowOf(cell);
    if (row !== undefined) this.#options.onInput(row.record.id, this.#fields[cell.cellIndex - 1], input);
  }

  /** @param {HTMLTableCellElement} cell */
  #rowOf(cell) {
    const tr = cell.closest('tr');
    for (const row of this.#rows.values()) if (row.element === tr) return row;
    return undefined;
  }
}

/**
 * @param {EventTarget | null} target
 * @returns {HTMLTableCellElement | undefined} a cell of the body
 */
function cellOf(target) {
  return target instanceof Element ? (target.closest('tbody th, tbody td') ?? undefined) : undefined;
}
