// The list of tables: links beside the grid, or on a narrow screen a select.

import { matching, rowsText, slugOf } from './catalog.js';
import { element } from './element.js';
import { formatHash } from './location_hash.js';

/** @typedef {import('./catalog.js').Table} Table */

export class TableListView {
  #links = document.querySelector('#table-links');
  #select = /** @type {HTMLSelectElement} */ (document.querySelector('#table-select'));
  #filter = /** @type {HTMLInputElement} */ (document.querySelector('#table-filter'));
  /** @type {Table[]} */
  #tables = [];
  /** @type {string | undefined} */
  #chosen = undefined;

  constructor() {
    this.#filter.addEventListener('input', () => this.#showLinks());
    this.#filter.addEventListener('keydown', ({ key }) => {
      if (key === 'Enter') this.#links.querySelector('a')?.click();
    });
    this.#select.addEventListener('change', () => {
      location.hash = formatHash({ table: this.#select.value, after: undefined });
    });
  }

  /** @param {Table[]} tables */
  show(tables) {
    this.#tables = tables;
    this.#filter.hidden = tables.length < 8;
    this.#select.replaceChildren(...matching(tables, '').map((table) => {
      const rows = table.name === undefined ? 'not served' : rowsText(table.rows);
      return element('option', { value: slugOf(table) }, rows === '' ? table.table : `${table.table} (${rows})`);
    }));
    this.#showLinks();
  }

  /** @param {Table | undefined} table */
  choose(table) {
    this.#chosen = table && slugOf(table);
    if (table === undefined) this.#select.selectedIndex = -1;
    else this.#select.value = slugOf(table);
    this.#showLinks();
    this.#links.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' });
  }

  /**
   * The number of rows of a table has changed.
   *
   * @param {Table} table
   */
  count(table) {
    for (const link of this.#links.querySelectorAll('a')) {
      if (link.dataset.table === slugOf(table)) link.querySelector('.rows').textContent = rowsText(table.rows);
    }
  }

  #showLinks() {
    const tables = matching(this.#tables, this.#filter.value);
    this.#links.replaceChildren(...tables.map((table) => element('li', {}, this.#link(table))));
    /** @type {HTMLElement} */ (document.querySelector('#no-table')).hidden = tables.length > 0;
  }

  /** @param {Table} table */
  #link(table) {
    const slug = slugOf(table);
    const isServed = table.name !== undefined;
    const count = element('span', { class: 'rows' }, isServed ? rowsText(table.rows) : 'not served');
    const attributes = { href: formatHash({ table: slug, after: undefined }), 'data-table': slug, class: isServed ? '' : 'unserved', title: table.table };
    return element('a', { ...attributes, 'aria-current': slug === this.#chosen && 'page' }, element('span', { class: 'name' }, table.table), count);
  }
}
