// What a cell shows: a value, NULL, a checkbox, and beside it the state of an edit.

import { isSame, shortTextOf } from './cell_value.js';
import { element } from './element.js';
import { kindOf } from './field_kind.js';

/**
 * @typedef {import('./catalog.js').Field} Field
 * @typedef {import('./edits.js').Edit} Edit
 */

/**
 * @param {HTMLTableCellElement} cell
 * @param {Field} field
 * @param {unknown} stored
 * @param {Edit | undefined} edit
 */
export function paintCell(cell, field, stored, edit) {
  const children = [shownValue(field, edit === undefined ? stored : edit.value, edit?.text, cell.getAttribute('aria-readonly'))];
  if (edit?.message !== undefined) children.push(element('span', { class: 'message' }, edit.message));
  if (edit?.state === 'refused' && !isSame(edit.value, stored)) {
    children.push(element('span', { class: 'note' }, 'Not saved. Enter edits, Esc discards.'));
  }
  cell.replaceChildren(...children);
  cell.classList.toggle('busy', edit?.state === 'saving' || edit?.state === 'retrying');
  cell.classList.toggle('refused', edit?.state === 'refused');
  if (edit?.state === 'refused') cell.setAttribute('aria-invalid', 'true');
  else cell.removeAttribute('aria-invalid');
}

/**
 * @param {Field} field
 * @param {unknown} value
 * @param {string | undefined} text
 * @param {string | null} readOnly
 */
function shownValue(field, value, text, readOnly) {
  if (text !== undefined) return element('span', { class: 'value' }, text);
  if (value === null || value === undefined) return element('span', { class: 'value null', title: 'No value' }, 'NULL');
  if (value === '') return element('span', { class: 'value empty' }, 'empty');
  if (kindOf(field) === 'boolean') {
    const box = element('input', { type: 'checkbox', tabindex: -1, 'aria-label': field.name, disabled: readOnly === 'true' });
    box.checked = value === true;
    return box;
  }
  if (kindOf(field) === 'choice') return element('span', { class: 'value choice' }, shortTextOf(value, field));
  return element('span', { class: 'value' }, shortTextOf(value, field));
}
