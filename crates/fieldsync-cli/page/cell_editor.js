// The editor that covers a cell while it is edited. Enter saves, Escape cancels, leaving it saves.

import { proseOf } from './cell_value.js';
import { element } from './element.js';
import { fieldInput } from './field_input.js';
import { hintOf, kindOf } from './field_kind.js';

/**
 * @typedef {object} EditorOptions
 * @property {HTMLTableCellElement} cell
 * @property {import('./catalog.js').Field} field
 * @property {unknown} value
 * @property {string} [text]  what to start from instead of the value
 * @property {(input: { value: unknown } | { text: string, message: string }) => void} onCommit
 * @property {() => void} onClose  before `onCommit`; the cell is free again
 */

export class CellEditor {
  cell;
  #options;
  #input;
  #box;
  #news = element('span', { class: 'note' });
  #isOpen = true;

  /** @param {EditorOptions} options */
  constructor(options) {
    const { cell, field, value, text } = options;
    this.cell = cell;
    this.#options = options;
    this.#input = fieldInput(field, value, text);
    const { control } = this.#input;
    const hint = element('span', { class: 'hint', id: 'editor-hint' }, hintOf(field));
    const foot = element('span', { class: 'editor-foot' }, hint);
    if (field.nullable && !this.#input.hasNull) foot.append(this.#nullButton());
    control.setAttribute('aria-label', field.name);
    control.setAttribute('aria-describedby', 'editor-hint');
    this.#box = element('div', { class: 'editor', 'data-kind': kindOf(field) }, control, foot, this.#news);
    this.#box.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => this.#onKey(event));
    this.#box.addEventListener('focusout', (/** @type {FocusEvent} */ event) => this.#onFocusOut(event));
    cell.append(this.#box);
    cell.classList.add('editing');
    control.focus({ preventScroll: true });
    if (text === undefined && 'select' in control && control.type !== 'checkbox') control.select();
    // An editor in the last columns grows to the left, so that the grid does not become wider.
    const isBeyond = this.#box.getBoundingClientRect().right > cell.closest('table').getBoundingClientRect().right;
    this.#box.classList.toggle('from-right', isBeyond);
    this.#box.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  /**
   * The value was changed elsewhere meanwhile. What the user types stays.
   *
   * @param {unknown} value
   */
  tellOfChange(value) {
    this.#news.textContent = `Changed elsewhere to ${proseOf(value, this.#options.field)}`;
  }

  /** Ends without saving. */
  close() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.cell.classList.remove('editing');
    this.#box.remove();
    this.#options.onClose();
  }

  #nullButton() {
    const button = element('button', { type: 'button', class: 'set-null' }, 'Set NULL');
    button.addEventListener('click', () => this.#commit({ value: null }));
    return button;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    event.stopPropagation(); // The keys of the grid do not apply here.
    const isButton = event.target instanceof HTMLButtonElement;
    if (event.key === 'Escape') {
      event.preventDefault();
      this.close();
      this.cell.focus();
    } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !isButton) {
      event.preventDefault();
      this.#commit(this.#input.read());
    }
  }

  /** @param {FocusEvent} event */
  #onFocusOut(event) {
    const isInside = event.relatedTarget instanceof Node && this.#box.contains(event.relatedTarget);
    // When the whole window loses the focus, the editor stays.
    if (!this.#isOpen || isInside || !document.hasFocus()) return;
    const input = this.#input.read();
    this.close();
    this.#options.onCommit(input);
  }

  /** @param {{ value: unknown } | { text: string, message: string }} input */
  #commit(input) {
    this.close();
    this.cell.focus();
    this.#options.onCommit(input);
  }
}
