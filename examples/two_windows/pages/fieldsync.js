// The fieldsync.v1 client: one WebSocket, one topic. Keeps the records in step with the server and, after every
// loss of the connection, goes on from the cursor. What the messages mean for the records is told in records.js,
// what a close code means in close_codes.js. Writes go over HTTP and are no business of this file.

import { Backoff } from './backoff.js';
import { absenceAfter, refusal } from './close_codes.js';
import { systemClock } from './clock.js';
import { Records } from './records.js';

const PROTOCOL = 'fieldsync.v1';

// The server sends a heartbeat every 15 s. After 45 s without any message the connection is dead.
const SILENCE = 45_000;

const CONNECTING = 0; // WebSocket.CONNECTING

/**
 * @typedef {import('./records.js').Difference} Difference
 * @typedef {import('./close_codes.js').Absence} Absence
 *
 * @typedef {{ name: 'connecting' }
 *   | { name: 'connected' }
 *   | { name: 'disconnected', why: string, retryAt: number }
 *   | { name: 'stopped' }} State  `connected` means: caught up, not merely that a socket is open
 *
 * @typedef {object} Options
 * @property {string} url
 * @property {string} topic
 * @property {(differences: Difference[], message: any) => void} onMessage  after each message that was applied
 * @property {(state: State) => void} onState
 * @property {typeof WebSocket} [WebSocket]
 * @property {import('./clock.js').Clock} [clock]
 */

export class Subscription {
  records = new Records();
  #options;
  #clock;
  #backoff;
  /** @type {WebSocket | undefined} the socket that counts; whatever an older one still says is ignored */
  #socket = undefined;
  /** @type {unknown} runs out when the server has been silent for too long */
  #watchdog = undefined;
  /** @type {{ timer: unknown, patient: boolean } | undefined} set between two attempts */
  #wait = undefined;

  /** @param {Options} options */
  constructor(options) {
    this.#options = { WebSocket: globalThis.WebSocket, ...options };
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

  /** Somebody does not want to wait for the next attempt. */
  tryNow() {
    if (this.#wait !== undefined) this.#connect();
  }

  /**
   * To be called on the browser's `online` event. A delay that the server asked for is kept; an attempt that began
   * before there was a network may hang for long and is begun anew.
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
      const since = this.records.cursor; // Left out of the JSON where there is none.
      socket.send(JSON.stringify({ type: 'subscribe', topic, since }));
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#watch();
      this.#receive(data);
    };
    socket.onclose = (close) => {
      if (socket === this.#socket) this.#stayAway(absenceAfter(close, this.#clock.random));
    };
  }

  /** @param {unknown} data */
  #receive(data) {
    let message;
    let differences;
    try {
      message = JSON.parse(String(data));
      if (message.topic !== this.#options.topic) return;
      if (message.type === 'error') return this.#refused(message.problem ?? {});
      differences = this.records.apply(message);
    } catch {
      // The cursor still stands before this message, so the next connection gets it again.
      return this.#stayAway({ why: 'the server sent something unreadable', delay: undefined, patient: false });
    }
    this.#options.onMessage(differences, message);
    if (message.type === 'live') {
      this.#backoff.reset();
      this.#options.onState({ name: 'connected' });
    }
  }

  /** @param {{ status?: number, title?: string, detail?: string }} problem */
  #refused({ status = 0, title, detail }) {
    const why = detail ?? title ?? 'the server refused the subscription';
    const cursorIsToBlame = status === 400 && this.records.cursor !== undefined;
    if (cursorIsToBlame) this.records.cursor = undefined;
    const passing = cursorIsToBlame || status === 429 || status >= 500;
    this.#stayAway(passing ? { why, delay: undefined, patient: false } : refusal(why, this.#clock.random));
  }

  /** @param {Absence} absence */
  #stayAway({ why, delay, patient }) {
    this.#leave();
    const milliseconds = delay ?? this.#backoff.next();
    this.#wait = { timer: this.#clock.setTimeout(() => this.#connect(), milliseconds), patient };
    this.#options.onState({ name: 'disconnected', why, retryAt: this.#clock.now() + milliseconds });
  }

  /** (Re)starts the time that the server has for saying something. */
  #watch() {
    this.#clock.clearTimeout(this.#watchdog);
    this.#watchdog = this.#clock.setTimeout(() => {
      this.#stayAway({ why: 'the server has fallen silent', delay: undefined, patient: false });
    }, SILENCE);
  }

  /** Lets go of the socket, of the wait and of all timers; says nothing to anybody. */
  #leave() {
    this.#clock.clearTimeout(this.#watchdog);
    this.#clock.clearTimeout(this.#wait?.timer);
    this.#wait = undefined;
    const socket = this.#socket;
    this.#socket = undefined; // First: whatever the socket says from here on is stale.
    socket?.close();
    this.records.connectionLost();
  }
}
