// What is said of a table beside its name: rows, columns, key, and what may surprise.

import { rowsText } from './catalog.js';
import { element } from './element.js';

/**
 * @param {import('./catalog.js').Table} table
 * @returns {HTMLElement[]}
 */
export function factsOf({ effects, fields, key, left_out: leftOut, reason, rows, view, writable }) {
  // A key of one column is the id, and no field.
  const columns = fields && fields.length + leftOut.length + (key.length === 1 ? 1 : 0);
  const texts = [
    typeof rows === 'number' ? `${rowsText(rows)} ${rows === 1 ? 'row' : 'rows'}` : '',
    columns === undefined ? '' : `${columns} ${columns === 1 ? 'column' : 'columns'}`,
    key.length > 0 ? `key ${key.join(', ')}` : '',
  ];
  const changes = effects.length === 0 ? '' : `changes ${effects.length === 1 ? 'another table' : `${effects.length} other tables`}`;
  const marks = [view ? 'view' : '', reason === undefined && !writable ? 'read-only' : '', changes];
  return [...texts.filter((text) => text !== '').map((text) => element('span', {}, text)), ...marks.flatMap(pill)];
}

/**
 * @param {string} text
 * @returns {HTMLElement[]} none if the text is empty
 */
export const pill = (text) => (text === '' ? [] : [element('span', { class: 'pill' }, text)]);
