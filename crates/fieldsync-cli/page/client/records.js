// The records of one topic, and the cursor of that state. It takes messages of fieldsync.v1 and returns differences,
// without access to the socket or the page. Also reads records from JSON text, with every digit of their numbers.

/**
 * @typedef {{ id: number | string, [field: string]: unknown }} StoredRecord
 *
 * @typedef {object} Entry  one change, alone or as part of a page
 * @property {number | string} id
 * @property {'create' | 'update' | 'delete' | 'enter' | 'leave'} action
 * @property {Record<string, unknown>} [fields]
 * @property {string} [key]  the write's Idempotency-Key
 * @property {string[]} [keys]  the same, where several writes were folded into one entry
 *
 * @typedef {object} Difference
 * @property {number | string} id
 * @property {StoredRecord | undefined} before  undefined if there was no such record
 * @property {StoredRecord | undefined} after  undefined if it was deleted
 * @property {string[]} keys  the Idempotency-Keys of the writes that had one
 */

export class Records {
  /** @type {Map<number | string, StoredRecord>} the records to show */
  byId = new Map();
  /** @type {string | undefined} the position in the change log of `byId` */
  cursor = undefined;
  /** @type {string | undefined} where an incomplete snapshot goes on */
  resume = undefined;
  /** Whether a snapshot was completed. */
  loaded = false;
  /** @type {Map<number | string, StoredRecord> | undefined} a snapshot that is not complete */
  #incoming = undefined;

  /**
   * Applies a message, and returns the differences. If it throws, nothing has changed.
   *
   * @param {any} message
   * @returns {Difference[]}
   */
  apply(message) {
    switch (message.type) {
      case 'snapshot':
        return this.#takePiece(message.records, message);
      case 'change':
        return this.#takePage([message], message);
      case 'changes':
        return this.#takePage(message.changes, message);
      case 'live':
        if (this.#incoming === undefined && this.loaded) this.cursor = message.cursor ?? this.cursor;
        return [];
      case 'reset': {
        // The old records stay on the page, but they have no position in the log.
        this.cursor = undefined;
        this.resume = undefined;
        this.#incoming = new Map();
        return message.reason === 'view' ? this.#discard() : [];
      }
      default:
        return []; // A later version of the protocol may have more types.
    }
  }

  /** Shows nothing: some records may not be shown any more. */
  #discard() {
    const shown = [...this.byId];
    this.byId = new Map();
    return shown.map(([id, before]) => ({ id, before, after: undefined, keys: [] }));
  }

  /** Discards an incomplete snapshot, unless it can go on. */
  connectionLost() {
    if (this.resume === undefined) this.#incoming = undefined;
  }

  /** Starts anew: the server does not know where this client is. */
  forgetPlace() {
    this.cursor = undefined;
    this.resume = undefined;
    this.#incoming = undefined;
  }

  /**
   * @param {StoredRecord[]} pieces
   * @param {{ cursor?: string, resume?: string }} place
   */
  #takePiece(pieces, { cursor, resume }) {
    const incoming = new Map(this.#incoming);
    for (const record of pieces) incoming.set(record.id, record);
    if (cursor === undefined) {
      this.#incoming = incoming;
      this.resume = resume;
      return [];
    }
    const differences = [];
    for (const [id, before] of this.byId) {
      if (!incoming.has(id)) differences.push({ id, before, after: undefined, keys: [] });
    }
    for (const [id, after] of incoming) {
      differences.push({ id, before: this.byId.get(id), after, keys: [] });
    }
    this.byId = incoming;
    this.#incoming = undefined;
    this.resume = undefined;
    this.cursor = cursor;
    this.loaded = true;
    return differences;
  }

  /**
   * @param {Entry[]} entries
   * @param {{ cursor?: string, resume?: string }} place
   */
  #takePage(entries, { cursor, resume }) {
    if (cursor !== undefined && cursor === this.cursor) return []; // It was applied before the connection was lost.
    const shown = this.#incoming === undefined;
    // Applied to a copy: a page is applied completely or not at all.
    const records = new Map(this.#incoming ?? this.byId);
    const differences = entries.map((entry) => {
      const before = records.get(entry.id);
      const after = afterEntry(before, entry);
      if (after === undefined) records.delete(entry.id);
      else records.set(entry.id, after);
      return { id: entry.id, before, after, keys: entry.keys ?? (entry.key === undefined ? [] : [entry.key]) };
    });
    if (!shown) {
      this.#incoming = records;
      this.resume = resume;
      return [];
    }
    this.byId = records;
    this.cursor = cursor ?? this.cursor;
    return differences;
  }
}

/**
 * @param {StoredRecord | undefined} before
 * @param {Entry} entry
 * @returns {StoredRecord | undefined}
 */
function afterEntry(before, { id, action, fields }) {
  switch (action) {
    case 'create':
    case 'enter':
      return { ...fields, id };
    case 'update':
      return { ...before, ...fields, id };
    case 'delete':
    case 'leave':
      return undefined;
    default:
      throw new TypeError(`unknown action ${action}`);
  }
}

/**
 * Like `JSON.parse`, but a number that would lose digits becomes a `JSON.rawJSON` object, which `JSON.stringify` writes as it
 * was. Browsers without `JSON.rawJSON` (Firefox before 135, Safari before 18.4) round it.
 *
 * @param {string} text
 * @returns {any}
 */
export function parseExact(text) {
  const { rawJSON } = /** @type {any} */ (JSON);
  if (rawJSON === undefined) return JSON.parse(text);
  const keepDigits = (/** @type {string} */ _, /** @type {unknown} */ value, /** @type {{ source: string }} */ context) =>
    typeof value === 'number' && decimal(String(value)) !== decimal(context.source) ? rawJSON(context.source) : value;
  return JSON.parse(text, /** @type {any} */ (keepDigits));
}

/**
 * The same text for equal numbers: `1.50`, `15e-1` and `1.5` are `15e-1`.
 *
 * @param {string} number
 */
function decimal(number) {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(number);
  if (parts === null) return number; // Infinity
  const [, sign, whole, fraction = '', exponent = '0'] = parts;
  const digits = (whole + fraction).replace(/^0+/, '');
  if (digits === '') return '0';
  let end = digits.length;
  while (digits[end - 1] === '0') end -= 1;
  return `${sign}${digits.slice(0, end)}e${Number(exponent) - fraction.length + digits.length - end}`;
}
