// The columns of a table: their types and what they may contain, why some are left out, and what edits change elsewhere.

import { proseOf } from './cell_value.js';
import { element } from './element.js';
import { choicesOf } from './field_kind.js';

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {import('./catalog.js').Field} Field
 */

/**
 * @param {HTMLElement} panel
 * @param {Table} table
 */
export function showColumns(panel, table) {
  const served = element('table', { class: 'columns' },
    headOf('Field', 'Type', 'JSON', 'NULL', 'Remarks'),
    element('tbody', {}, idRow(table), ...table.fields.map(fieldRow)));
  const parts = [element('div', { class: 'column-scroller' }, served)];
  if (table.left_out.length > 0) {
    const rows = table.left_out.map(({ column, type, reason }) =>
      element('tr', {}, rowHead(column), element('td', {}, code(type)), element('td', {}, reason)));
    const leftOut = element('table', { class: 'columns left-out' }, headOf('Column', 'Type', 'Why it is left out'), element('tbody', {}, ...rows));
    parts.push(element('h2', {}, 'Left out'), element('div', { class: 'column-scroller' }, leftOut));
  }
  if (table.effects.length > 0) {
    const effects = table.effects.map((effect) => element('li', {}, effect));
    parts.push(element('h2', {}, 'What edits change in other tables'), element('ul', { class: 'effects' }, ...effects));
  }
  panel.replaceChildren(...parts);
}

/** @param {Table} table */
function idRow({ ids, key }) {
  const givenBy = { database: 'Given by the database.', engine: 'Given by fieldsync.', creator: 'Given by whoever creates the record.' };
  const columns = key.length === 0 ? '' : `The key: ${key.join(', ')}. `;
  return element('tr', {}, rowHead('id'), element('td', {}), element('td', {}, code(ids.type)), element('td', {}, 'no'),
    element('td', {}, columns + givenBy[ids.given_by]));
}

/** @param {Field} field */
function fieldRow(field) {
  return element('tr', {}, rowHead(field.name), element('td', {}, code(field.type ?? '')), element('td', {}, code(jsonTypeOf(field))),
    element('td', {}, field.nullable ? 'yes' : 'no'), element('td', {}, remarksOn(field).join(' ')));
}

/** @param {Field} field */
function jsonTypeOf({ schema }) {
  const types = [schema.type ?? 'any'].flat().filter((type) => type !== 'null');
  const format = schema.format ?? schema.contentEncoding;
  return format === undefined ? types.join(' or ') : `${types.join(' or ')}, ${format}`;
}

/** @param {Field} field */
function remarksOn(field) {
  const { column, has_default: hasDefault, name, nullable, read_only: readOnly, schema, set_on_create: setOnCreate } = field;
  const remarks = [];
  if (column !== name) remarks.push(`Column ${column}.`);
  if (schema.maxLength !== undefined) remarks.push(`At most ${schema.maxLength} characters.`);
  if (schema.enum !== undefined) remarks.push(`One of ${choicesOf(field).map((choice) => proseOf(choice, field)).join(', ')}.`);
  const bounds = boundsOf(schema);
  if (bounds !== '') remarks.push(bounds);
  if (readOnly) remarks.push(setOnCreate ? 'Set when the record is created, then read-only.' : 'Read-only.');
  if (hasDefault && !nullable) remarks.push('Has a default.');
  return remarks;
}

/** @param {Record<string, any>} schema */
function boundsOf({ minimum, maximum }) {
  const [isMin, isMax] = [minimum, maximum].map((bound) => bound !== undefined && Math.abs(bound) < Number.MAX_SAFE_INTEGER);
  if (isMin && isMax) return `From ${minimum} to ${maximum}.`;
  return isMin ? `At least ${minimum}.` : isMax ? `At most ${maximum}.` : '';
}

/** @param {...string} titles */
function headOf(...titles) {
  return element('thead', {}, element('tr', {}, ...titles.map((title) => element('th', { scope: 'col' }, title))));
}

/** @param {string} text */
const rowHead = (text) => element('th', { scope: 'row' }, text);

/** @param {string} text */
const code = (text) => (text === '' ? '' : element('code', {}, text));
