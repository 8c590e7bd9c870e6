// The records of the page that is shown, kept up to date by the messages of the collection's topic. The subscription starts
// from the cursor of the list, so the server sends no snapshot, and a table may have any number of rows.

/**
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {import('./client/records.js').Entry} Entry
 * @typedef {import('./client/records.js').Difference} Difference
 */

// A page that is full may grow by this number of records which others create.
const MAX_GROWTH = 200;

export class Listing {
  /** @type {Map<number | string, StoredRecord>} in the order of the ids */
  byId;
  /** @type {string | undefined} */
  cursor;
  /** It applies no snapshot. */
  resume = undefined;
  /** Whether more pages follow. */
  hasNext;
  /** The number of records that were created since the page was read, and are not on it. */
  createdElsewhere = 0;
  /** The number of records by which the table grew since the page was read. */
  growth = 0;
  /** Whether the server can't continue from the cursor: the page has to be read again. */
  isStale = false;
  #after;
  #limit;

  /**
   * @param {import('./list_page.js').ListPage} page
   * @param {string | undefined} after  where the page begins
   */
  constructor({ records, cursor, next }, after) {
    this.byId = new Map(records.map((record) => [record.id, record]));
    this.cursor = cursor;
    this.hasNext = next !== undefined;
    this.#after = after;
    this.#limit = records.length + MAX_GROWTH;
  }

  /**
   * Applies a message of the topic, and returns what has changed on the page.
   *
   * @param {any} message
   * @returns {Difference[]}
   */
  apply(message) {
    if (message.type === 'reset' || message.type === 'snapshot') this.isStale = true;
    if (this.isStale) return [];
    const entries = message.type === 'change' ? [message] : message.type === 'changes' ? message.changes : [];
    const differences = entries.map((entry) => this.#take(entry)).filter((difference) => difference !== undefined);
    this.cursor = message.cursor ?? this.cursor;
    return differences;
  }

  /** Messages are applied one by one, so nothing is left half done. */
  connectionLost() {}

  /** The server then sends a snapshot, and the page is read again. */
  forgetPlace() {
    this.cursor = undefined;
  }

  /**
   * @param {Entry} entry
   * @returns {Difference | undefined}
   */
  #take({ id, action, fields, key, keys = key === undefined ? [] : [key] }) {
    const before = this.byId.get(id);
    switch (action) {
      case 'delete':
        this.growth -= 1;
        if (before === undefined) return undefined;
        this.byId.delete(id);
        return { id, before, after: undefined, keys };
      case 'create':
        if (before === undefined) this.growth += 1;
        if (before === undefined && !this.#belongsHere(id)) {
          this.createdElsewhere += 1;
          return undefined;
        }
        return this.#put({ ...fields, id }, before, keys);
      case 'update':
        return before === undefined ? undefined : this.#put({ ...before, ...fields, id }, before, keys);
      default:
        return undefined; // A later version of the protocol may have more actions.
    }
  }

  /**
   * @param {StoredRecord} record
   * @param {StoredRecord | undefined} before
   * @param {string[]} keys
   */
  #put(record, before, keys) {
    const isBetween = before === undefined && this.#hasLaterThan(record.id);
    this.byId.set(record.id, record);
    if (isBetween) this.byId = new Map([...this.byId].sort(([one], [other]) => order(one, other)));
    return { id: record.id, before, after: record, keys };
  }

  /** @param {number | string} id */
  #belongsHere(id) {
    if (this.byId.size >= this.#limit) return false;
    const isBeforePage = this.#after !== undefined && order(id, this.#after) < 0;
    const isBehindPage = this.hasNext && !this.#hasLaterThan(id);
    return !isBeforePage && !isBehindPage;
  }

  /** @param {number | string} id */
  #hasLaterThan(id) {
    return [...this.byId.keys()].some((shown) => order(shown, id) > 0);
  }
}

/**
 * The order of two integers, and 0 for ids that are text: their order is the database's, which is not known here, so a new
 * one stands last until the page is read again.
 *
 * @param {number | string} one
 * @param {number | string} other
 * @returns {number} above 0 if the first one comes later
 */
function order(one, other) {
  if (!isInteger(one) || !isInteger(other)) return 0;
  return Number(BigInt(one) > BigInt(other)) - Number(BigInt(one) < BigInt(other));
}

/** @param {number | string} id */
const isInteger = (id) => /^-?\d+$/.test(String(id));
