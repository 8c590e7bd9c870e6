// What kind of value a field holds, read from its JSON Schema: it decides how the value is shown and edited.

/**
 * @typedef {import('./catalog.js').Field} Field
 * @typedef {'boolean' | 'choice' | 'integer' | 'number' | 'date' | 'datetime' | 'uuid' | 'bytes' | 'json' | 'line' | 'text'} Kind
 *   `line` is short text, `text` may have several lines
 */

// Longer text is edited in several lines.
const LONGEST_LINE = 200;

/** @type {Record<string, Kind>} */
const OF_FORMAT = { date: 'date', 'date-time': 'datetime', uuid: 'uuid' };

/**
 * @param {Field} field
 * @returns {Kind}
 */
export function kindOf({ schema }) {
  const types = typesOf(schema);
  if (schema.enum !== undefined) return 'choice';
  if (types.includes('boolean')) return 'boolean';
  if (types.includes('integer')) return 'integer';
  if (types.includes('number')) return 'number';
  if (types.length !== 1 || types[0] !== 'string') return 'json';
  if (schema.contentEncoding === 'base64') return 'bytes';
  return OF_FORMAT[schema.format] ?? (schema.maxLength <= LONGEST_LINE ? 'line' : 'text');
}

/**
 * @param {Field} field
 * @returns {string[]} the values that the field may have, without null
 */
export function choicesOf({ schema }) {
  return (schema.enum ?? []).filter((/** @type {unknown} */ value) => value !== null);
}

/**
 * The list from which the user chooses a value. NULL differs from a choice with the label `NULL`.
 *
 * @param {Field} field
 * @returns {{ value: string | null, label: string }[]}
 */
export function optionsOf(field) {
  const choices = choicesOf(field).map((value) => ({ value, label: String(value) }));
  return field.nullable ? [{ value: null, label: 'NULL (no value)' }, ...choices] : choices;
}

/** Whether a large number may be sent as text, so that no digit is lost. */
export const mayBeText = (/** @type {Field} */ { schema }) => typesOf(schema).includes('string');

/** @type {Partial<Record<Kind, string>>} */
const HINTS = {
  boolean: 'Checked means true',
  date: 'YYYY-MM-DD',
  datetime: 'Such as 2026-01-13T10:00:00Z',
  uuid: 'A UUID',
  bytes: 'Base64',
  json: 'JSON',
  integer: 'A whole number',
  number: 'A number',
};

/**
 * What the user may enter, in a few words.
 *
 * @param {Field} field
 */
export function hintOf(field) {
  const { maxLength } = field.schema;
  return HINTS[kindOf(field)] ?? (maxLength === undefined ? '' : `At most ${maxLength} characters`);
}

/** @param {Record<string, any>} schema */
function typesOf({ type = [] }) {
  return [type].flat().filter((one) => one !== 'null');
}
