// One attempt to write over HTTP, and its result. retrier.js decides whether to try again.

import { systemClock } from './clock.js';
import { whyOf } from './problem.js';
import { parseExact } from './records.js';

// Longer than the server's own limit, so that a request without a reply is probably lost.
const REPLY_TIMEOUT = 20_000;

/**
 * @typedef {object} Write
 * @property {'POST' | 'PATCH' | 'DELETE'} method
 * @property {string} url
 * @property {string} key  the Idempotency-Key, which is the same for each attempt
 * @property {Record<string, unknown>} [body]
 *
 * @typedef {object} Problem  problem details (RFC 9457), with the fields that they are about
 * @property {string} [title]
 * @property {number} [status]
 * @property {string} [detail]
 * @property {Record<string, string[]>} [errors]
 *
 * @typedef {{ kind: 'done', record: any }
 *   | { kind: 'refused', problem: Problem }
 *   | { kind: 'unknown', why: string, retryAfter?: number }} Answer
 *   `refused`: not applied. `unknown`: perhaps applied; retry with the same key, after `retryAfter` ms if given.
 */

/**
 * @param {{ fetch?: typeof fetch, clock?: import('./clock.js').Clock }} [options]
 * @returns {(write: Write) => Promise<Answer>}
 */
export function restClient({ fetch = (...args) => globalThis.fetch(...args), clock = systemClock } = {}) {
  return async ({ method, url, key, body }) => {
    const giveUp = new AbortController();
    const timer = clock.setTimeout(() => giveUp.abort(), REPLY_TIMEOUT);
    try {
      /** @type {Record<string, string>} */
      const headers = { Accept: 'application/json, application/problem+json', 'Idempotency-Key': key };
      if (body !== undefined) {
        headers['Content-Type'] = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
      }
      const response = await fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: giveUp.signal,
      });
      return await answerOf(response, clock);
    } catch {
      return { kind: 'unknown', why: giveUp.signal.aborted ? 'the server does not answer' : 'the server cannot be reached' };
    } finally {
      clock.clearTimeout(timer);
    }
  };
}

/**
 * @param {Response} response
 * @param {import('./clock.js').Clock} clock
 * @returns {Promise<Answer>}
 */
async function answerOf(response, clock) {
  // Only the status counts. The body may be truncated, or a proxy's, which is not JSON.
  const body = await response.text().then(parseExact).catch(() => undefined);
  if (response.ok) return { kind: 'done', record: body };
  const problem = { status: response.status, title: `the server answered ${response.status}`, ...body };
  if (response.status < 500 && response.status !== 429) return { kind: 'refused', problem };
  const retryAfter = retryAfterOf(response.headers.get('Retry-After'), clock.now());
  return { kind: 'unknown', why: whyOf(problem), retryAfter };
}

/**
 * `Retry-After` is a number of seconds or a date.
 *
 * @param {string | null} header
 * @param {number} now
 * @returns {number | undefined} milliseconds
 */
function retryAfterOf(header, now) {
  if (header === null) return undefined;
  const milliseconds = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(milliseconds) ? Math.min(Math.max(milliseconds, 0), 3_600_000) : undefined;
}
