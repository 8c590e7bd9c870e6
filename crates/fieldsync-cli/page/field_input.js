// The control that edits a value: a checkbox, a list of choices, one line, or several.

import { isSame, parseText, textOf } from './cell_value.js';
import { element } from './element.js';
import { kindOf, optionsOf } from './field_kind.js';

/**
 * @typedef {import('./catalog.js').Field} Field
 *
 * @typedef {object} FieldInput
 * @property {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} control
 * @property {() => { value: unknown } | { text: string, message: string }} read
 * @property {boolean} hasNull  whether the control itself offers NULL
 */

/**
 * @param {Field} field
 * @param {unknown} value
 * @param {string} [text]  what was typed before, instead of the value
 * @returns {FieldInput}
 */
export function fieldInput(field, value, text) {
  switch (kindOf(field)) {
    case 'boolean':
      return checkbox(value);
    case 'choice':
      return list(field, value);
    case 'json':
    case 'text':
      return typed(field, element('textarea', { rows: 1, spellcheck: 'false' }), text ?? textOf(value, field));
    case 'integer':
      return typed(field, line('numeric'), text ?? textOf(value, field));
    case 'number':
      return typed(field, line('decimal'), text ?? textOf(value, field));
    default:
      return typed(field, line('text'), text ?? textOf(value, field));
  }
}

/** @param {string} inputmode */
function line(inputmode) {
  return element('input', { type: 'text', inputmode, autocomplete: 'off', spellcheck: 'false' });
}

/**
 * @param {Field} field
 * @param {HTMLInputElement | HTMLTextAreaElement} control
 * @param {string} text
 * @returns {FieldInput}
 */
function typed(field, control, text) {
  control.value = text;
  const read = () => {
    const parsed = parseText(control.value, field);
    return 'message' in parsed ? { ...parsed, text: control.value } : parsed;
  };
  return { control, read, hasNull: false };
}

/**
 * @param {unknown} value
 * @returns {FieldInput}
 */
function checkbox(value) {
  const control = element('input', { type: 'checkbox' });
  control.checked = value === true;
  control.indeterminate = value === null || value === undefined;
  return { control, read: () => ({ value: control.indeterminate ? null : control.checked }), hasNull: false };
}

/**
 * @param {Field} field
 * @param {unknown} value
 * @returns {FieldInput}
 */
function list(field, value) {
  const choices = optionsOf(field);
  const options = choices.map((choice, index) => element('option', { value: index, class: choice.value === null && 'null' }, choice.label));
  if (field.nullable) options.splice(1, 0, element('hr'));
  const control = element('select', {}, ...options);
  control.selectedIndex = choices.findIndex((choice) => isSame(choice.value, value));
  const read = () => {
    const index = control.selectedIndex;
    return index < 0 ? { text: '', message: 'Choose a value.' } : { value: choices[index].value };
  };
  return { control, read, hasNull: field.nullable };
}
