// Who is signed in at this window, with `--roles`.

import { asSentence } from './client/problem.js';

export class Login {
  #url;
  #onSignedIn;
  #line = /** @type {HTMLElement} */ (document.querySelector('#login'));
  #error = document.querySelector('.login-error');
  #button = /** @type {HTMLButtonElement} */ (this.#line.querySelector('.sign-out'));
  isSignedOut = false;

  /** @param {{ url: string, onSignedIn: () => void }} options */
  constructor({ url, onSignedIn }) {
    this.#url = url;
    this.#onSignedIn = onSignedIn;
    // The server closes the sockets of all windows, also that of this one.
    this.#button.addEventListener('click', () => this.#send('DELETE', 'Not signed out'));
  }

  /** @param {import('./client/fieldsync.js').State} state */
  show(state) {
    if (state.name === 'signed-out') this.isSignedOut = true;
    if (state.name === 'connected') this.isSignedOut = false;
    this.#line.hidden = this.isSignedOut;
  }

  async signIn() {
    if (await this.#send('POST', 'Not signed in')) this.#onSignedIn();
  }

  /**
   * @param {'POST' | 'DELETE'} method
   * @param {string} failed
   */
  async #send(method, failed) {
    this.#error.textContent = '';
    let why = 'the server cannot be reached';
    try {
      const { ok, status } = await fetch(this.#url, { method });
      if (ok) return true;
      why = `the server answered ${status}`;
    } catch {
      // The reason stays.
    }
    this.#error.textContent = asSentence(`${failed}: ${why}`);
    return false;
  }
}
