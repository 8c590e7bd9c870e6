// The addresses of the API, and one page of the records of a table.

import { parseExact } from './client/records.js';

/**
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {import('./client/rest.js').Problem} Problem
 *
 * @typedef {object} ListPage
 * @property {StoredRecord[]} records
 * @property {string | undefined} cursor  the position in the change log of these records
 * @property {string | undefined} next  the `after` of the next page; undefined on the last page
 */

export const PAGE_SIZE = 50;

/**
 * @param {string} collection
 * @param {string | undefined} after
 */
export function listPath(collection, after) {
  const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
  if (after !== undefined) query.set('after', after);
  return `/api/${encodeURIComponent(collection)}/?${query}`;
}

/**
 * @param {string} collection
 * @param {number | string} id
 */
export function recordPath(collection, id) {
  return `/api/${encodeURIComponent(collection)}/${encodeURIComponent(id)}/`;
}

/**
 * Whether a browser can send a request for this record. It takes a path segment of dots, also an escaped one, for a step in the
 * path, and the server takes an empty segment for no id.
 *
 * @param {number | string} id
 */
export const hasAddress = (id) => !['', '.', '..'].includes(String(id));

/**
 * @param {typeof fetch} fetch
 * @param {string} collection
 * @param {string | undefined} after
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ kind: 'page', page: ListPage } | { kind: 'refused', problem: Problem }>} rejects if the server can't be reached
 */
export async function readPage(fetch, collection, after, signal) {
  const response = await fetch(listPath(collection, after), { signal, headers: { Accept: 'application/json' } });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    return { kind: 'refused', problem: { status: response.status, ...problem } };
  }
  const records = parseExact(await response.text());
  const cursor = response.headers.get('Fieldsync-Cursor') ?? undefined;
  return { kind: 'page', page: { records, cursor, next: nextAfter(response.headers.get('Link')) } };
}

/**
 * @param {string | null} link  a Link header (RFC 8288)
 * @returns {string | undefined} the `after` of its `next`
 */
export function nextAfter(link) {
  const next = /<([^>]*)>\s*;[^,<]*\brel="?next"?/i.exec(link ?? '');
  if (next === null) return undefined;
  return new URL(next[1], 'http://server.invalid/').searchParams.get('after') ?? undefined;
}
