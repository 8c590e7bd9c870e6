// The records of one topic as this window knows them, and the cursor that says how far that knowledge goes.
// Pure data: messages of fieldsync.v1 in, differences out. Knows no socket and no page.

/**
 * @typedef {{ id: number | string, [field: string]: unknown }} StoredRecord
 *
 * @typedef {object} Entry  one change, alone or as part of a page
 * @property {number | string} id
 * @property {'create' | 'update' | 'delete'} action
 * @property {Record<string, unknown>} [fields]
 * @property {string} [key]  the write's Idempotency-Key
 * @property {string[]} [keys]  the same, where several writes were folded into one entry
 *
 * @typedef {object} Difference
 * @property {number | string} id
 * @property {StoredRecord | undefined} before  undefined: there was no such record
 * @property {StoredRecord | undefined} after  undefined: it was deleted
 * @property {string[]} keys  the Idempotency-Keys of the writes, as far as the server told them
 */

export class Records {
  /** @type {Map<number | string, StoredRecord>} what may be shown */
  byId = new Map();
  /** @type {string | undefined} the place in the change log that `byId` stands for */
  cursor = undefined;
  /** Whether there ever was a whole snapshot. */
  loaded = false;
  /** @type {Map<number | string, StoredRecord> | undefined} a snapshot of which the last piece is still to come */
  #incoming = undefined;

  /**
   * Takes one message and says what is different now. An error thrown here leaves everything as it was.
   *
   * @param {any} message
   * @returns {Difference[]}
   */
  apply(message) {
    switch (message.type) {
      case 'snapshot':
        return this.#takePiece(message.records, message.cursor);
      case 'change':
        return this.#takePage([message], message.cursor);
      case 'changes':
        return this.#takePage(message.changes, message.cursor);
      case 'live':
        if (this.#incoming === undefined && this.loaded) this.cursor = message.cursor ?? this.cursor;
        return [];
      case 'reset':
        // The old records stay on screen, but they no longer stand for a place in the log.
        this.cursor = undefined;
        this.#incoming = new Map();
        return [];
      default:
        return []; // A later version of the protocol may say more than we know.
    }
  }

  /** The rest of a half-received snapshot will never come. */
  connectionLost() {
    this.#incoming = undefined;
  }

  /**
   * @param {StoredRecord[]} pieces
   * @param {string | undefined} cursor
   */
  #takePiece(pieces, cursor) {
    const incoming = new Map(this.#incoming);
    for (const record of pieces) incoming.set(record.id, record);
    if (cursor === undefined) {
      this.#incoming = incoming;
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
    this.cursor = cursor;
    this.loaded = true;
    return differences;
  }

  /**
   * @param {Entry[]} entries
   * @param {string | undefined} cursor
   */
  #takePage(entries, cursor) {
    if (cursor !== undefined && cursor === this.cursor) return []; // Seen already, before the connection was lost.
    const shown = this.#incoming === undefined;
    // Worked out on a copy: a page counts as a whole or not at all.
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
      return { ...fields, id };
    case 'update':
      return { ...before, ...fields, id };
    case 'delete':
      return undefined;
    default:
      throw new TypeError(`unknown action ${action}`);
  }
}
