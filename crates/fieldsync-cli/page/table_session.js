// One page of a table, from reading it to its end: the list, then the live changes, and the list again when the server can't
// continue from the cursor.

import { Backoff } from './client/backoff.js';
import { summaryOf } from './client/problem.js';
import { Subscription } from './client/fieldsync.js';
import { readPage } from './list_page.js';
import { Listing } from './listing.js';

/**
 * @typedef {object} SessionOptions
 * @property {string} collection
 * @property {string | undefined} after
 * @property {string} liveUrl
 * @property {typeof globalThis.fetch} fetch
 * @property {typeof WebSocket} WebSocket
 * @property {import('./client/clock.js').Clock} clock
 * @property {(listing: Listing, next: string | undefined) => void} onListing
 * @property {(differences: import('./client/records.js').Difference[], message: any) => void} onMessage
 * @property {(state: import('./client/fieldsync.js').State) => void} onState
 * @property {(why: string) => void} onRefused
 */

export class TableSession {
  #options;
  #backoff;
  #end = new AbortController();
  /** @type {Subscription | undefined} */
  #subscription = undefined;
  /** @type {(() => void) | undefined} ends the wait before the list is read again */
  #wake = undefined;

  /** @param {SessionOptions} options */
  constructor(options) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock.random);
  }

  async start() {
    const { collection, after, fetch, clock, onState, onRefused } = this.#options;
    const { signal } = this.#end;
    for (;;) {
      onState({ name: 'connecting' });
      const reply = await readPage(fetch, collection, after, signal).catch(() => undefined);
      if (signal.aborted) return;
      if (reply?.kind === 'page') return this.#follow(reply.page);
      const isFinal = reply !== undefined && reply.problem.status < 500 && reply.problem.status !== 429;
      if (isFinal) return onRefused(summaryOf(reply.problem));
      const milliseconds = this.#backoff.next();
      const why = reply === undefined ? 'the server cannot be reached' : 'the server had an internal error';
      onState({ name: 'disconnected', why, retryAt: clock.now() + milliseconds });
      await this.#wait(milliseconds);
      if (signal.aborted) return;
    }
  }

  stop() {
    this.#end.abort();
    this.#wake?.();
    this.#subscription?.stop();
    this.#subscription = undefined;
  }

  tryNow() {
    this.#wake?.();
    this.#subscription?.tryNow();
  }

  networkIsBack() {
    this.#wake?.();
    this.#subscription?.networkIsBack();
  }

  /** @param {import('./list_page.js').ListPage} page */
  #follow(page) {
    const { after, clock, collection, liveUrl, onListing, onMessage, onState, WebSocket } = this.#options;
    const listing = new Listing(page, after);
    onListing(listing, page.next);
    const subscription = new Subscription({
      url: liveUrl,
      topic: collection,
      records: listing,
      clock,
      WebSocket,
      onMessage: (differences, message) => {
        if (!listing.isStale) return onMessage(differences, message);
        // What follows is a snapshot of the whole table, which may be large: the page is read again instead.
        this.#subscription = undefined;
        subscription.stop();
        this.start();
      },
      onState: (state) => {
        if (state.name !== 'stopped') onState(state);
      },
    });
    this.#subscription = subscription;
    subscription.start();
  }

  /** @param {number} milliseconds */
  #wait(milliseconds) {
    const { clock } = this.#options;
    return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
      const timer = clock.setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clock.clearTimeout(timer);
        resolve();
      };
    }).then(() => {
      this.#wake = undefined;
    });
  }
}
