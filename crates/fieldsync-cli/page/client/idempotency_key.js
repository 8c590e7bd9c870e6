// The keys that make a write safe to retry, and a list of the keys of this window.

/**
 * A random UUID. `crypto.randomUUID` is missing on http origins other than localhost; `getRandomValues` is not.
 *
 * @param {Crypto} crypto
 * @returns {string}
 */
export function randomKey(crypto = globalThis.crypto) {
  if (crypto.randomUUID !== undefined) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40; // version 4
  bytes[8] = (bytes[8] & 0x3f) | 0x80; // variant of RFC 9562
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

// The change of a write comes within seconds, so only the keys of the last writes are kept.
const MAX_KEYS = 500;

export class OwnKeys {
  /** @type {Map<string, boolean>} key → whether its change has come */
  #echoed = new Map();
  #random;

  constructor(random = () => randomKey()) {
    this.#random = random;
  }

  /** @returns {string} a new key */
  make() {
    const key = this.#random();
    this.#echoed.set(key, false);
    if (this.#echoed.size > MAX_KEYS) this.#echoed.delete(this.#echoed.keys().next().value);
    return key;
  }

  /** @param {string} key */
  has(key) {
    return this.#echoed.has(key);
  }

  /** @param {string} key */
  markEchoed(key) {
    if (this.has(key)) this.#echoed.set(key, true);
  }

  /** @param {string} key */
  isEchoed(key) {
    return this.#echoed.get(key) === true;
  }
}
