// The log of the wire at the foot of the page.

import { sizeText } from './cell_value.js';
import { element } from './element.js';
import { WireLog } from './wire_log.js';

/** @typedef {import('./wire_log.js').WireEntry} WireEntry */

export class WireView {
  #details = /** @type {HTMLDetailsElement} */ (document.querySelector('#wire'));
  #body = document.querySelector('#wire-entries');
  #latest = document.querySelector('#wire-latest');
  log = new WireLog((entry) => this.#show(entry));

  constructor() {
    // While the log is closed, only its latest entry is kept on the page.
    this.#details.addEventListener('toggle', () => {
      this.#body.replaceChildren(...(this.#details.open ? [...this.log.entries].reverse().map(rowOf) : []));
    });
  }

  /** @param {WireEntry} entry */
  #show(entry) {
    const { direction, method, what, status } = entry;
    this.#latest.textContent = `${direction === 'out' ? '↑' : '↓'} ${method} ${what} ${status}`;
    if (!this.#details.open) return;
    this.#body.prepend(rowOf(entry));
    while (this.#body.childElementCount > this.log.entries.length) this.#body.lastElementChild.remove();
  }
}

/** @param {WireEntry} entry */
function rowOf({ at, bytes, direction, method, milliseconds, status, what }) {
  const isBad = /^[45]|failed/.test(status) && method !== 'WS';
  const arrow = element('span', { 'aria-label': direction === 'out' ? 'sent' : 'received', role: 'img' }, direction === 'out' ? '↑' : '↓');
  return element('tr', { class: `${direction}${isBad ? ' bad' : ''}` },
    element('td', {}, new Date(at).toLocaleTimeString('en-GB')), element('td', {}, arrow), element('td', {}, method),
    element('td', { class: 'what', title: what }, what), element('td', {}, status),
    element('td', {}, bytes === undefined ? '' : sizeText(bytes)),
    element('td', {}, milliseconds === undefined ? '' : `${Math.round(milliseconds)} ms`));
}
