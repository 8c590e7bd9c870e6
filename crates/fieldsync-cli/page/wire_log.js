// What happened on the wire: the latest requests and messages.

import { whyOf } from './client/problem.js';

/**
 * @typedef {object} WireEntry
 * @property {'out' | 'in'} direction
 * @property {string} method  of a request, or WS
 * @property {string} what  the path, or the message's type and topic
 * @property {string} status
 * @property {number | undefined} bytes  of the body
 * @property {number | undefined} milliseconds  from the request to the reply
 * @property {number} at
 */

const MAX_ENTRIES = 50;

export class WireLog {
  /** @type {WireEntry[]} the oldest first */
  entries = [];
  #onEntry;

  /** @param {(entry: WireEntry) => void} onEntry */
  constructor(onEntry) {
    this.#onEntry = onEntry;
  }

  /** @param {WireEntry} entry */
  add(entry) {
    this.entries.push(entry);
    if (this.entries.length > MAX_ENTRIES) this.entries.shift();
    this.#onEntry(entry);
  }
}

/**
 * A message of fieldsync.v1 in a few words.
 *
 * @param {string} data
 */
export function describeMessage(data) {
  try {
    const { type, sub, collection, topic = sub ?? collection, id, action, changes, records, fields, problem } = JSON.parse(data);
    const about = id === undefined ? topic : `${topic}/${id}`;
    const names = fields && action !== 'create' ? `: ${Object.keys(fields).join(', ')}` : '';
    const number = changes?.length ?? records?.length;
    const detail = action ? ` ${action}${names}` : number === undefined ? '' : ` (${number})`;
    return `${type} ${about ?? ''}${detail}${problem ? `: ${whyOf(problem)}` : ''}`;
  } catch {
    return 'a message that is not JSON';
  }
}
