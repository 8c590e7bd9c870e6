// Between the value of a field and the text that a person reads or types.

import { parseExact } from './client/records.js';
import { kindOf, mayBeText } from './field_kind.js';

/** @typedef {import('./catalog.js').Field} Field */

// A cell shows the beginning of a value; the editor has all of it.
const LONGEST_SHOWN = 240;

/**
 * The text in an editor.
 *
 * @param {unknown} value
 * @param {Field} field
 */
export function textOf(value, field) {
  if (value === null || value === undefined) return '';
  if (kindOf(field) === 'json') return JSON.stringify(value, null, 2);
  return plain(value);
}

/**
 * The text in a cell. `null` is not text: the cell shows it in its own way.
 *
 * @param {unknown} value
 * @param {Field} field
 */
export function shortTextOf(value, field) {
  const kind = kindOf(field);
  if (kind === 'bytes') return `${sizeText(byteLength(String(value)))}`;
  const text = kind === 'json' ? JSON.stringify(value) : kind === 'datetime' ? readableTime(String(value)) : plain(value);
  // By code points, so that no character is cut in two.
  return text.length > LONGEST_SHOWN ? `${[...text.slice(0, LONGEST_SHOWN + 1)].slice(0, -1).join('')}…` : text;
}

/**
 * The value in a sentence, where NULL can't be shown in its own way.
 *
 * @param {unknown} value
 * @param {Field} field
 */
export function proseOf(value, field) {
  if (value === null || value === undefined) return 'NULL';
  return value === '' || value === 'NULL' ? `"${value}"` : shortTextOf(value, field);
}

/**
 * The value of a text that was typed. The server validates it; what is refused here could not be sent as JSON of the right type.
 *
 * @param {string} text
 * @param {Field} field
 * @returns {{ value: unknown } | { message: string }}
 */
export function parseText(text, field) {
  const kind = kindOf(field);
  const trimmed = text.trim();
  const isTextual = kind === 'line' || kind === 'text' || kind === 'choice';
  if (trimmed === '' && !isTextual && field.nullable) return { value: null };
  switch (kind) {
    case 'integer':
      return parseInteger(trimmed, field);
    case 'number':
      return parseNumber(trimmed, field);
    case 'json':
      return parseJson(trimmed);
    case 'boolean':
      return trimmed === 'true' || trimmed === 'false' ? { value: trimmed === 'true' } : { message: 'Must be true or false.' };
    default:
      return { value: isTextual ? text : trimmed };
  }
}

/**
 * Whether two JSON values are the same.
 *
 * @param {unknown} one
 * @param {unknown} other
 */
export function isSame(one, other) {
  return canonical(one) === canonical(other);
}

/**
 * The merge patch (RFC 7396) that makes one JSON value of another: a member that is missing in it is null there.
 *
 * @param {unknown} value
 * @param {unknown} before
 */
export function patchOf(value, before) {
  if (!hasMembers(value) || !hasMembers(before)) return value;
  /** @type {Record<string, unknown>} */
  const patch = Object.fromEntries(Object.keys(before).filter((name) => !Object.hasOwn(value, name)).map((name) => [name, null]));
  for (const [name, member] of Object.entries(value)) {
    if (!Object.hasOwn(before, name)) patch[name] = member;
    else if (!isSame(member, before[name])) patch[name] = patchOf(member, before[name]);
  }
  return patch;
}

/**
 * A number of many digits is an object without members of its own; see `parseExact`.
 *
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
const hasMembers = (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && /^\{/.test(JSON.stringify(value));

/**
 * @param {string} text
 * @param {Field} field
 */
function parseInteger(text, field) {
  if (!/^[+-]?\d+$/.test(text)) return { message: 'Must be a whole number.' };
  const value = Number(text);
  if (Number.isSafeInteger(value)) return { value: value + 0 };
  return mayBeText(field) ? { value: BigInt(text.replace('+', '')).toString() } : { message: 'The number is too large.' };
}

/**
 * @param {string} text
 * @param {Field} field
 */
function parseNumber(text, field) {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return { message: 'Must be a number, such as 12.50.' };
  const value = Number(text);
  if (!Number.isFinite(value)) return { message: 'The number is too large.' };
  const digits = text.replace(/e.*$/i, '').replace(/\D/g, '').replace(/^0+/, '');
  return { value: digits.length > 15 && mayBeText(field) ? text : value };
}

/** @param {string} text */
function parseJson(text) {
  try {
    return { value: parseExact(text) };
  } catch {
    return { message: 'Must be JSON, such as {"a": 1} or "text".' };
  }
}

/**
 * A number with more digits than a double has is an object; see `parseExact`.
 *
 * @param {unknown} value
 */
const plain = (value) => (typeof value === 'object' ? JSON.stringify(value) : String(value));

/** @param {string} time */
function readableTime(time) {
  return time.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.0+|(\.\d*?)0*)?Z$/, '$1 $2$3');
}

/** @param {string} base64 */
function byteLength(base64) {
  return Math.floor((base64.replace(/=+$/, '').length * 3) / 4);
}

/** @param {number} bytes */
export function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

/** @param {unknown} value */
const isRaw = (value) => /** @type {any} */ (JSON).isRawJSON?.(value) === true;

/** @param {unknown} value */
function canonical(value) {
  return JSON.stringify(value, (_, part) => {
    const isObject = part !== null && typeof part === 'object' && !Array.isArray(part) && !isRaw(part);
    return isObject ? Object.fromEntries(Object.entries(part).sort(([one], [other]) => (one < other ? -1 : 1))) : part;
  });
}
