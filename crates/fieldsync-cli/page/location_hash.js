// The part of the address after `#`: which table is shown, and from which record on. `#/Album?after=50`

/**
 * @typedef {{ table: string | undefined, after: string | undefined }} Place
 */

/**
 * @param {string} hash
 * @returns {Place}
 */
export function parseHash(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  return { table: decoded(path) || undefined, after: new URLSearchParams(query).get('after') ?? undefined };
}

/**
 * @param {Place} place
 * @returns {string}
 */
export function formatHash({ table, after }) {
  const path = `#/${encodeURIComponent(table ?? '')}`;
  return after === undefined ? path : `${path}?after=${encodeURIComponent(after)}`;
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return ''; // The user typed a lone percent sign.
  }
}
