// Moves the focus through the grid, and opens editors. One cell at a time can be reached by Tab (a roving tabindex).

import { CellEditor } from './cell_editor.js';
import { kindOf } from './field_kind.js';
import { cellAfterKey } from './grid_keys.js';

/**
 * @typedef {import('./catalog.js').Field} Field
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {HTMLTableCellElement} Cell
 *
 * @typedef {object} FocusOptions
 * @property {HTMLElement} container
 * @property {(row: HTMLTableRowElement) => StoredRecord} recordOf
 * @property {(cell: Cell) => Field | undefined} fieldOf  undefined for the id
 * @property {import('./grid_view.js').GridOptions['editOf']} editOf
 * @property {import('./grid_view.js').GridOptions['onInput']} onInput
 * @property {import('./grid_view.js').GridOptions['onDiscard']} onDiscard
 * @property {import('./grid_view.js').GridOptions['onSelect']} onSelect
 * @property {(cell: Cell) => void} repaint
 */

export class GridFocus {
  #options;
  /** @type {Cell | undefined} the one that Tab reaches */
  #current = undefined;
  /** @type {CellEditor | undefined} */
  #editor = undefined;
  /** Whether the cell that is being clicked had the focus before: then the click edits it. */
  #hadFocus = false;

  /** @param {FocusOptions} options */
  constructor(options) {
    this.#options = options;
    const { container } = options;
    container.addEventListener('keydown', (event) => this.#onKey(event));
    container.addEventListener('focusin', ({ target }) => this.#onFocus(cellOf(target)));
    container.addEventListener('click', ({ target }) => this.#onClick(target));
    container.addEventListener('pointerdown', ({ target }) => {
      this.#hadFocus = cellOf(target) === document.activeElement;
    });
  }

  /** The rows are about to be replaced. */
  reset() {
    this.#editor?.close();
    this.#current = undefined;
  }

  /**
   * Lets Tab reach a cell, unless it reaches another one already.
   *
   * @param {Cell | undefined} cell
   */
  offer(cell) {
    if (this.#current === undefined) this.#moveTo(cell);
  }

  /** @param {Cell} cell */
  isEditing(cell) {
    return this.#editor?.cell === cell;
  }

  /** @param {HTMLTableRowElement} row */
  isIn(row) {
    return this.#current !== undefined && row.contains(this.#current);
  }

  /**
   * @param {Cell} cell
   * @param {unknown} value
   */
  tellOfChange(cell, value) {
    if (this.isEditing(cell)) this.#editor.tellOfChange(value);
  }

  /**
   * The row is about to be removed: the focus moves to its neighbor.
   *
   * @param {HTMLTableRowElement} row
   */
  leave(row) {
    if (!this.isIn(row)) return;
    const hadFocus = row.contains(document.activeElement);
    this.#editor?.close();
    const neighbor = /** @type {HTMLTableRowElement | null} */ (row.nextElementSibling ?? row.previousElementSibling);
    this.#moveTo(neighbor?.cells[this.#current.cellIndex]);
    if (hadFocus) this.#current?.focus();
    if (!hadFocus || this.#current === undefined) this.#options.onSelect(undefined);
  }

  /** @param {Cell | undefined} cell */
  #moveTo(cell) {
    if (this.#current !== undefined) this.#current.tabIndex = -1;
    this.#current = cell;
    if (cell !== undefined) cell.tabIndex = 0;
  }

  /** @param {Cell | undefined} cell */
  #onFocus(cell) {
    if (cell === undefined) return;
    this.#moveTo(cell);
    this.#options.onSelect(this.#options.recordOf(cell.closest('tr')));
  }

  /** @param {EventTarget} target */
  #onClick(target) {
    const cell = cellOf(target);
    if (cell === undefined || this.isEditing(cell)) return;
    if (target instanceof HTMLInputElement) {
      this.#enter(cell, { value: target.checked });
      cell.focus();
    } else if (this.#hadFocus) this.#edit(cell);
    else cell.focus();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const cell = cellOf(event.target);
    if (cell === undefined || event.altKey) return;
    const row = cell.closest('tr');
    const body = /** @type {HTMLTableSectionElement} */ (row.parentElement);
    const size = { rows: body.rows.length, columns: row.cells.length };
    const to = cellAfterKey(event, { row: row.sectionRowIndex, column: cell.cellIndex }, size);
    if (to !== undefined) body.rows[to.row].cells[to.column].focus();
    else if (!this.#act(cell, event)) return;
    event.preventDefault();
  }

  /**
   * @param {Cell} cell
   * @param {KeyboardEvent} event
   * @returns {boolean} whether the key has a meaning in this cell
   */
  #act(cell, { ctrlKey, isComposing, key, metaKey }) {
    const field = this.#options.fieldOf(cell);
    if (field === undefined) return false;
    const isTyped = key.length === 1 && key !== ' ' && !ctrlKey && !metaKey && !isComposing;
    const isText = !['boolean', 'choice'].includes(kindOf(field));
    if (key === ' ' && kindOf(field) === 'boolean') this.#toggle(cell);
    else if (key === 'Enter' || key === 'F2') this.#edit(cell);
    else if (key === 'Escape') this.#options.onDiscard(this.#options.recordOf(cell.closest('tr')).id, field);
    else if (isTyped && isText) this.#edit(cell, key);
    else return false;
    return true;
  }

  /** @param {Cell} cell */
  #toggle(cell) {
    const box = cell.querySelector('input');
    if (!isReadOnly(cell)) this.#enter(cell, { value: box === null || !box.checked });
  }

  /**
   * @param {Cell} cell
   * @param {string} [typed]  the letter that began the edit, and replaces the value
   */
  #edit(cell, typed) {
    const field = this.#options.fieldOf(cell);
    if (field === undefined || isReadOnly(cell) || this.isEditing(cell)) return;
    const record = this.#options.recordOf(cell.closest('tr'));
    const edit = this.#options.editOf(record.id, field.name);
    this.#editor = new CellEditor({
      cell,
      field,
      value: edit === undefined ? record[field.name] : edit.value,
      text: typed ?? edit?.text,
      onCommit: (input) => this.#enter(cell, input),
      onClose: () => {
        this.#editor = undefined;
        this.#options.repaint(cell);
      },
    });
  }

  /**
   * @param {Cell} cell
   * @param {import('./grid_view.js').Input} input
   */
  #enter(cell, input) {
    this.#options.onInput(this.#options.recordOf(cell.closest('tr')).id, this.#options.fieldOf(cell), input);
  }
}

const isReadOnly = (/** @type {Cell} */ cell) => cell.getAttribute('aria-readonly') === 'true';

/**
 * @param {EventTarget | null} target
 * @returns {Cell | undefined} a cell of the body
 */
function cellOf(target) {
  return target instanceof Element ? (target.closest('tbody th, tbody td') ?? undefined) : undefined;
}
