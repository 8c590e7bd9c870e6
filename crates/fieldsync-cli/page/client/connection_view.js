// The line at the top of the page that shows the state of the connection.

import { systemClock } from './clock.js';

/**
 * @typedef {import('./fieldsync.js').State} State
 * @typedef {Pick<HTMLElement, 'querySelector' | 'dataset'>} Line
 */

export class ConnectionView {
  #line = document.querySelector('#connection');
  #text = this.#line.querySelector('.connection-text');
  #countdown = this.#line.querySelector('.countdown');
  #tryNow = document.querySelector('.try-now');
  #lost = false;
  /** @type {unknown} */
  #tick = undefined;
  #connected;
  #signIn;

  /**
   * @param {() => void} onTryNow
   * @param {{ connected?: string, signIn?: string }} [texts]  `signIn` is the text of the button while nobody is signed in
   */
  constructor(onTryNow, { connected = 'Connected to WebSocket', signIn = 'Try now' } = {}) {
    this.#connected = connected;
    this.#signIn = signIn;
    this.#tryNow.addEventListener('click', onTryNow);
  }

  /** @param {State} state */
  show(state) {
    systemClock.clearTimeout(this.#tick);
    this.#line.dataset.state = ['stopped', 'signed-out'].includes(state.name) ? 'disconnected' : state.name;
    switch (state.name) {
      case 'connected':
        this.#lost = false;
        this.#say(this.#connected, '');
        break;
      case 'connecting':
        // The text stays the same during attempts, so that a screen reader does not read it every few seconds.
        if (this.#lost) this.#countdown.textContent = 'trying now…';
        else this.#say('Connecting…', '');
        break;
      case 'disconnected':
        this.#lost = true;
        this.#say(`Disconnected: ${state.why}`, '');
        this.#countDown(state.retryAt);
        break;
      case 'signed-out':
        this.#lost = true;
        this.#say(`Signed out: ${state.why}`, '');
        break;
      case 'stopped':
        this.#say('Disconnected', '');
    }
    this.#offerTryNow(state);
  }

  /**
   * Shows the button for waits of more than two seconds only: it would vanish before anyone could press it. While nobody is signed
   * in, nothing happens without it.
   *
   * @param {State} state
   */
  #offerTryNow(state) {
    const hasFocus = document.activeElement === this.#tryNow;
    const isSignedOut = state.name === 'signed-out';
    this.#tryNow.textContent = isSignedOut ? this.#signIn : 'Try now';
    const useful = isSignedOut || (state.name === 'disconnected' && state.retryAt - systemClock.now() > 2000);
    this.#tryNow.hidden = !useful && !(hasFocus && state.name !== 'connected');
  }

  /**
   * @param {string} text
   * @param {string} countdown
   */
  #say(text, countdown) {
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#countdown.textContent = countdown;
  }

  /** @param {number} until */
  #countDown(until) {
    const seconds = Math.ceil((until - systemClock.now()) / 1000);
    this.#countdown.textContent = seconds > 0 ? `trying again in ${seconds} s` : 'trying now…';
    this.#tick = systemClock.setTimeout(() => this.#countDown(until), 250);
  }
}
