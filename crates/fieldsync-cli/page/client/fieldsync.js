// The fieldsync.v1 client: one WebSocket, one topic. It keeps the records up to date, and resumes from the cursor after a
// lost connection. records.js applies the messages, close_codes.js interprets close codes. Writes go over HTTP (rest.js).

import { Backoff } from './backoff.js';
import { absenceAfter, refusal, SIGNED_OUT, whySignedOut } from './close_codes.js';
import { systemClock } from './clock.js';
import { whyOf } from './problem.js';
import { parseExact, Records } from './records.js';

const PROTOCOL = 'fieldsync.v1';

// The server sends `live` about every 15 s. After three times that, the connection is considered lost.
const SILENCE_TIMEOUT = 45_000;

const CONNECTING = 0; // WebSocket.CONNECTING

/**
 * @typedef {import('./records.js').Difference} Difference
 * @typedef {import('./close_codes.js').Absence} Absence
 *
 * @typedef {{ name: 'connecting' }
 *   | { name: 'connected' }
 *   | { name: 'disconnected', why: string, retryAt: number }
 *   | { name: 'signed-out', why: string }
 *   | { name: 'stopped' }} State  `connected` means that the topic is live, not only that a socket is open. After
 *   `signed-out` nothing happens until `tryNow`
 *
 * @typedef {object} Options
 * @property {string} url
 * @property {string} topic
 * @property {Pick<Records, 'apply' | 'cursor' | 'resume' | 'connectionLost' | 'forgetPlace'>} [records]  where the messages are applied; by default all
 *   records of the topic, of which the server sends a snapshot first
 * @property {(differences: Difference[], message: any) => void} onMessage  after each message that was applied
 * @property {(state: State) => void} onState
 * @property {() => Promise<boolean>} [renew]  gets a fresh credential from the app after the old one has expired or was
 *   revoked; false if the user has to sign in
 * @property {typeof WebSocket} [WebSocket]
 * @property {import('./clock.js').Clock} [clock]
 */

/**
 * Whether a message is of the subscription to this topic. A `live` is of all topics of a collection.
 *
 * @param {{ type?: string, sub?: string, collection?: string }} message
 * @param {string} topic
 */
function isOf({ type, sub, collection }, topic) {
  return type === 'live' ? collection === topic.split(/[/?]/, 1)[0] : sub === topic;
}

export class Subscription {
  records;
  #options;
  #clock;
  #backoff;
  /** @type {WebSocket | undefined} the current socket; messages of older ones are ignored */
  #socket = undefined;
  /** @type {unknown} ends the connection when the server is silent for too long */
  #watchdog = undefined;
  /** @type {{ timer: unknown, patient: boolean } | undefined} the wait between two attempts */
  #wait = undefined;
  /** @type {object | undefined} no credential is accepted, and perhaps a fresh one is on its way */
  #signedOut = undefined;

  /** @param {Options} options */
  constructor(options) {
    this.#options = { WebSocket: globalThis.WebSocket, ...options };
    this.records = options.records ?? new Records();
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(this.#clock.random);
  }

  start() {
    if (this.#socket === undefined) this.#connect();
  }

  stop() {
    this.#leave();
    this.#options.onState({ name: 'stopped' });
  }

  /** Tries to connect now, instead of waiting for the next attempt. Call this also when the user has signed in again. */
  tryNow() {
    if (this.#wait !== undefined || this.#signedOut !== undefined) this.#connect();
  }

  /**
   * Call this on the browser's `online` event. It does not cut short a delay that the server asked for. An attempt that
   * began without a network may hang, and is replaced.
   */
  networkIsBack() {
    if (this.#wait?.patient === false || this.#socket?.readyState === CONNECTING) this.#connect();
  }

  #connect() {
    this.#leave();
    this.#options.onState({ name: 'connecting' });
    const { topic, url, WebSocket } = this.#options;
    const socket = new WebSocket(url, PROTOCOL);
    this.#socket = socket;
    this.#watch();
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#watch();
      const { cursor, resume } = this.records;
      const since = resume === undefined ? cursor : undefined;
      // JSON leaves out what is undefined.
      socket.send(JSON.stringify({ type: 'subscribe', topic, since, resume }));
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#watch();
      this.#receive(data);
    };
    socket.onclose = (close) => {
      if (socket !== this.#socket) return;
      if (close.code === SIGNED_OUT) this.#renew(whySignedOut(close.reason));
      else this.#stayAway(absenceAfter(close, this.#clock.random));
    };
  }

  /** @param {unknown} data */
  #receive(data) {
    let message;
    let differences;
    try {
      message = parseExact(String(data));
      if (!isOf(message, this.#options.topic)) return;
      if (message.type === 'error') return this.#refused(message.problem ?? {});
      differences = this.records.apply(message);
    } catch {
      // The cursor is still before this message, so the next connection receives it again.
      return this.#stayAway({ why: 'the server sent something unreadable', delay: undefined, patient: false });
    }
    this.#options.onMessage(differences, message);
    if (message.type === 'live') {
      this.#backoff.reset();
      this.#options.onState({ name: 'connected' });
    }
  }

  /** @param {import('./rest.js').Problem} problem */
  #refused(problem) {
    const { status = 0 } = problem;
    const why = whyOf({ title: 'the server refused the subscription', ...problem });
    if (status === 401) {
      this.#renew(why);
      return;
    }
    const isBadCursor = status === 400 && (this.records.cursor ?? this.records.resume) !== undefined;
    if (isBadCursor) this.records.forgetPlace();
    const isTemporary = isBadCursor || status === 429 || status >= 500;
    this.#stayAway(isTemporary ? { why, delay: undefined, patient: false } : refusal(why, this.#clock.random));
  }

  /**
   * Asks the app for a fresh credential. The delay before the next attempt grows, in case the server does not accept that either.
   *
   * @param {string} why
   */
  async #renew(why) {
    this.#leave();
    const asked = {};
    this.#signedOut = asked;
    const { onState, renew } = this.#options;
    const renewed = renew !== undefined && await renew().catch(() => false);
    if (this.#signedOut !== asked) return; // The user was faster.
    if (renewed) this.#stayAway({ why, delay: undefined, patient: false });
    else onState({ name: 'signed-out', why });
  }

  /** @param {Absence} absence */
  #stayAway({ why, delay, patient }) {
    this.#leave();
    const milliseconds = delay ?? this.#backoff.next();
    this.#wait = { timer: this.#clock.setTimeout(() => this.#connect(), milliseconds), patient };
    this.#options.onState({ name: 'disconnected', why, retryAt: this.#clock.now() + milliseconds });
  }

  /** Restarts the limit on the server's silence. */
  #watch() {
    this.#clock.clearTimeout(this.#watchdog);
    this.#watchdog = this.#clock.setTimeout(() => {
      this.#stayAway({ why: 'the server stopped responding', delay: undefined, patient: false });
    }, SILENCE_TIMEOUT);
  }

  /** Drops the socket, the wait and all timers, without reporting a state. */
  #leave() {
    this.#clock.clearTimeout(this.#watchdog);
    this.#clock.clearTimeout(this.#wait?.timer);
    this.#wait = undefined;
    this.#signedOut = undefined;
    const socket = this.#socket;
    this.#socket = undefined; // Before `close`: later events of the socket are ignored.
    socket?.close();
    this.records.connectionLost();
  }
}
