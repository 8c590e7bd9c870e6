// Changes from elsewhere in a sentence, for the status line and for screen readers.

import { isSame } from './cell_value.js';

/**
 * @param {import('./client/records.js').Difference[]} differences  at least one
 * @returns {string}
 */
export function newsOf(differences) {
  if (differences.length > 1) return `${differences.length} records were changed elsewhere.`;
  const [{ id, before, after }] = differences;
  if (after === undefined) return `Record ${id} was deleted elsewhere.`;
  if (before === undefined) return `Record ${id} was created elsewhere.`;
  const names = Object.keys(after).filter((name) => !isSame(before[name], after[name]));
  return `${names.join(', ')} of ${id} changed elsewhere.`;
}
