// A fetch and a WebSocket that write what passes through them into the wire log.

import { describeMessage } from './wire_log.js';

/**
 * @typedef {import('./wire_log.js').WireLog} WireLog
 * @typedef {import('./client/clock.js').Clock} Clock
 */

/**
 * @param {typeof globalThis.fetch} fetch
 * @param {WireLog} log
 * @param {Clock} clock
 * @returns {typeof globalThis.fetch}
 */
export function tappedFetch(fetch, log, clock) {
  return async (url, options = {}) => {
    const { method = 'GET' } = options;
    const begun = clock.now();
    const what = String(url);
    if (options.body) log.add(entry('out', method, what, '', byteLength(String(options.body)), undefined, begun));
    try {
      const response = await fetch(url, options);
      const length = response.headers.get('Content-Length');
      const bytes = length === null ? undefined : Number(length);
      log.add(entry('in', method, what, String(response.status), bytes, clock.now() - begun, clock.now()));
      return response;
    } catch (error) {
      const status = options.signal?.aborted ? 'stopped' : 'failed';
      log.add(entry('in', method, what, status, undefined, clock.now() - begun, clock.now()));
      throw error;
    }
  };
}

/**
 * @param {typeof WebSocket} Socket
 * @param {WireLog} log
 * @param {Clock} clock
 * @returns {typeof WebSocket}
 */
export function tappedSocket(Socket, log, clock) {
  const note = (/** @type {'in' | 'out'} */ direction, /** @type {string} */ what, /** @type {string} */ status, bytes) =>
    log.add(entry(direction, 'WS', what, status, bytes, undefined, clock.now()));
  return class extends Socket {
    /**
     * @param {string | URL} url
     * @param {string | string[]} [protocols]
     */
    constructor(url, protocols) {
      super(url, protocols);
      this.addEventListener('open', () => note('in', 'connected', '101', undefined));
      this.addEventListener('message', ({ data }) => note('in', describeMessage(String(data)), '', byteLength(String(data))));
      this.addEventListener('close', ({ code }) => note('in', 'closed', String(code), undefined));
    }

    /** @param {string} data */
    send(data) {
      note('out', describeMessage(data), '', byteLength(data));
      super.send(data);
    }
  };
}

/** @returns {import('./wire_log.js').WireEntry} */
function entry(direction, method, what, status, bytes, milliseconds, at) {
  return { direction, method, what, status, bytes, milliseconds, at };
}

/** @param {string} text */
const byteLength = (text) => new TextEncoder().encode(text).length;
