// Where the arrow keys and their relatives lead in a grid.

/** @typedef {{ row: number, column: number }} Cell */

// What PageUp and PageDown skip.
const PAGE_OF_ROWS = 10;

/**
 * @param {{ key: string, ctrlKey?: boolean, metaKey?: boolean }} event
 * @param {Cell} from
 * @param {{ rows: number, columns: number }} size
 * @returns {Cell | undefined} undefined if the key does not move
 */
export function cellAfterKey({ key, ctrlKey = false, metaKey = false }, { row, column }, { rows, columns }) {
  const isFar = ctrlKey || metaKey;
  const at = (/** @type {number} */ toRow, /** @type {number} */ toColumn) => ({
    row: Math.max(0, Math.min(rows - 1, toRow)),
    column: Math.max(0, Math.min(columns - 1, toColumn)),
  });
  switch (key) {
    case 'ArrowUp':
      return at(isFar ? 0 : row - 1, column);
    case 'ArrowDown':
      return at(isFar ? rows - 1 : row + 1, column);
    case 'ArrowLeft':
      return at(row, isFar ? 0 : column - 1);
    case 'ArrowRight':
      return at(row, isFar ? columns - 1 : column + 1);
    case 'Home':
      return at(isFar ? 0 : row, 0);
    case 'End':
      return at(isFar ? rows - 1 : row, columns - 1);
    case 'PageUp':
      return at(row - PAGE_OF_ROWS, column);
    case 'PageDown':
      return at(row + PAGE_OF_ROWS, column);
    default:
      return undefined;
  }
}
