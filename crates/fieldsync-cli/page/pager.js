// The links between the pages of a table. The server knows the next page only, so the way back is remembered here.

import { slugOf } from './catalog.js';
import { formatHash } from './location_hash.js';

export class Pager {
  #first = /** @type {HTMLAnchorElement} */ (document.querySelector('#first-page'));
  #previous = /** @type {HTMLAnchorElement} */ (document.querySelector('#previous-page'));
  #next = /** @type {HTMLAnchorElement} */ (document.querySelector('#next-page'));
  #facts = document.querySelector('#page-facts');
  #slug = '';
  /** @type {(string | undefined)[]} where the pages begin that led to this one, which is the last */
  #trail = [undefined];
  /** @type {string | undefined} */
  #nextAfter = undefined;

  /**
   * @param {import('./catalog.js').Table} table
   * @param {string | undefined} after
   * @param {string | undefined} next  undefined if it is not known anew
   * @param {import('./listing.js').Listing} listing
   */
  show(table, after, next, listing) {
    const slug = slugOf(table);
    if (slug !== this.#slug) this.#trail = [undefined];
    this.#slug = slug;
    const seen = this.#trail.indexOf(after);
    this.#trail = seen < 0 ? [...this.#trail, after] : this.#trail.slice(0, seen + 1);
    this.#nextAfter = listing.hasNext ? (next ?? this.#nextAfter) : undefined;
    const isFirst = after === undefined;
    link(this.#first, isFirst ? undefined : formatHash({ table: slug, after: undefined }));
    link(this.#previous, isFirst ? undefined : formatHash({ table: slug, after: this.#trail.at(-2) }));
    link(this.#next, this.#nextAfter === undefined ? undefined : formatHash({ table: slug, after: this.#nextAfter }));
    const isOnly = isFirst && !listing.hasNext;
    for (const one of [this.#first, this.#previous, this.#next]) one.hidden = isOnly;
    this.#facts.textContent = factsOf(listing);
  }
}

/** @param {import('./listing.js').Listing} listing */
function factsOf({ byId, createdElsewhere }) {
  const ids = [...byId.keys()];
  const shown = ids.length === 0 ? 'No records' : `${ids.length} ${ids.length === 1 ? 'record' : 'records'}`;
  const hint = createdElsewhere === 0 ? '' : ` · ${createdElsewhere} new on other pages`;
  return shown + hint;
}

/**
 * @param {HTMLAnchorElement} anchor
 * @param {string | undefined} href  a link without one is not available
 */
function link(anchor, href) {
  if (href === undefined) {
    anchor.removeAttribute('href');
    anchor.setAttribute('aria-disabled', 'true');
  } else {
    anchor.href = href;
    anchor.removeAttribute('aria-disabled');
  }
}
