// What `GET /api/` returns: the tables that are served, and those that can't be.

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} column
 * @property {string | null} type  the database's name of the type
 * @property {Record<string, any>} schema  JSON Schema
 * @property {boolean} nullable
 * @property {boolean} read_only
 * @property {boolean} set_on_create
 * @property {boolean} has_default
 *
 * @typedef {object} Table
 * @property {string} table
 * @property {number | null} rows  counted when the server started
 * @property {boolean} view
 * @property {string[]} key
 * @property {string[]} effects
 * @property {string} [reason]  why the table can't be served; the members below are absent then
 * @property {string} [name]
 * @property {Field[]} [fields]
 * @property {boolean} [creatable]
 * @property {boolean} [writable]
 * @property {{ type: 'integer' | 'uuidv7' | 'text', given_by: 'database' | 'engine' | 'creator' }} [ids]
 * @property {{ column: string, type: string, reason: string }[]} [left_out]
 */

/** Collections have no `!` in their names, so a table that is not served can't be confused with one that is. */
export const slugOf = (/** @type {Table} */ { name, table }) => name ?? `!${table}`;

/**
 * What can't be done with the records of a table, for the user.
 *
 * @param {Table} table
 */
export function restrictionOf({ creatable, writable }) {
  if (!creatable && !writable) return "Read-only: records can't be created, edited or deleted here.";
  if (!writable) return "Read-only: records can't be edited or deleted here.";
  return creatable ? '' : "Records can't be created here.";
}

/**
 * @param {Table[]} tables
 * @param {string} words
 * @returns {Table[]} the tables whose names contain the words, served ones first
 */
export function matching(tables, words) {
  const wanted = words.trim().toLowerCase();
  const found = tables.filter(({ table, name }) => `${table} ${name ?? ''}`.toLowerCase().includes(wanted));
  return [...found.filter((table) => table.name !== undefined), ...found.filter((table) => table.name === undefined)];
}

/** @param {number | null | undefined} rows */
export function rowsText(rows) {
  return typeof rows === 'number' ? rows.toLocaleString('en') : '';
}

/** @param {Table} table */
export function whatIsLeftOut({ left_out: leftOut = [] }) {
  if (leftOut.length === 0) return '';
  return leftOut.length === 1 ? '1 left out' : `${leftOut.length} left out`;
}
