// One field of a card: label, input, badge and error. draft.js decides which value is shown.

import { systemClock } from './client/clock.js';
import { Draft } from './draft.js';

// Long enough to send words instead of letters, short enough to seem immediate.
const DEBOUNCE = 120;

// The duration of the animation of `.changed` in style.css.
const HIGHLIGHT = 1500;

/**
 * @typedef {object} FieldOptions
 * @property {string} name
 * @property {string} label
 * @property {string} idPrefix
 * @property {boolean} isOurs  whether this window is for the field
 * @property {boolean} editable
 * @property {string} value
 * @property {(value: string) => void} onEdit  after a short pause in the typing
 * @property {() => void} onDiscard  when the user discards a refused value with Escape
 */

export class FieldView {
  /** @type {HTMLElement} */
  element;
  #input;
  #error;
  #note;
  #draft;
  #onEdit;
  #onDiscard;
  #debounce = /** @type {unknown} */ (undefined);
  #highlight = /** @type {unknown} */ (undefined);

  /** @param {FieldOptions} options */
  constructor({ name, label, idPrefix, isOurs, editable, value, onEdit, onDiscard }) {
    const template = /** @type {HTMLTemplateElement} */ (document.querySelector('#field-template'));
    this.element = /** @type {HTMLElement} */ (template.content.firstElementChild.cloneNode(true));
    this.#input = this.element.querySelector('input');
    this.#error = /** @type {HTMLElement} */ (this.element.querySelector('.field-error'));
    this.#note = this.element.querySelector('.field-note');
    this.#draft = new Draft(value);
    this.#onEdit = onEdit;
    this.#onDiscard = onDiscard;

    const id = `${idPrefix}-${name}`;
    const badge = this.element.querySelector('.badge');
    badge.id = `${id}-badge`;
    const notOurs = editable ? 'Not yours' : 'Read Only';
    badge.textContent = isOurs ? 'Editable' : notOurs;
    badge.classList.toggle('editable', isOurs);
    this.element.querySelector('label').textContent = label;
    this.element.querySelector('label').htmlFor = id;
    this.#error.id = `${id}-error`;
    this.#error.dataset.errorFor = name;
    this.#note.id = `${id}-note`;
    this.#input.id = id;
    this.#input.dataset.field = name;
    this.#input.readOnly = !editable;
    this.#input.setAttribute('aria-describedby', `${id}-badge ${id}-error ${id}-note`);
    this.#input.value = value;
    if (editable) this.#listen();
  }

  /** Whether something was typed and not sent yet. */
  get hasUnsent() {
    return this.#debounce !== undefined;
  }

  /**
   * The stream has a value.
   *
   * @param {string} value
   * @param {string[]} keys
   * @param {{ highlight: boolean }} options
   */
  receive(value, keys, { highlight }) {
    this.#draft.receive(value, keys);
    this.#show({ highlight });
  }

  caughtUp() {
    this.#draft.caughtUp();
    this.#show({ highlight: false });
  }

  /**
   * @param {string} value
   * @param {string | undefined} awaitedKey
   */
  saved(value, awaitedKey) {
    this.#draft.saved(value, awaitedKey);
    this.#sayError('');
    this.#show({ highlight: false });
  }

  /**
   * @param {string} value
   * @param {string} why
   */
  refused(value, why) {
    this.#draft.refused(value);
    this.#sayError(why);
    this.#show({ highlight: false });
  }

  #listen() {
    this.#input.addEventListener('input', () => {
      this.#draft.type(this.#input.value);
      systemClock.clearTimeout(this.#debounce);
      this.#debounce = systemClock.setTimeout(() => this.send(), DEBOUNCE);
      this.#show({ highlight: false });
    });
    this.#input.addEventListener('focus', () => this.#draft.focus(true));
    this.#input.addEventListener('blur', () => {
      this.send();
      this.#draft.focus(false);
      this.#show({ highlight: true });
    });
    this.#input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.send();
      if (event.key === 'Escape' && this.#draft.discard()) {
        this.#sayError('');
        this.#show({ highlight: false });
        this.#onDiscard();
      }
    });
  }

  /** Sends what was typed, without waiting for a pause. */
  send() {
    if (this.#debounce === undefined) return;
    systemClock.clearTimeout(this.#debounce);
    this.#debounce = undefined;
    this.#onEdit(this.#input.value);
  }

  /** @param {string} why */
  #sayError(why) {
    if (this.#error.textContent !== why) this.#error.textContent = why;
    if (why === '') this.#input.removeAttribute('aria-invalid');
    else this.#input.setAttribute('aria-invalid', 'true');
  }

  /** @param {{ highlight: boolean }} options */
  #show({ highlight }) {
    const { shown, heldBack } = this.#draft;
    this.#note.textContent = heldBack === undefined ? '' : `Changed elsewhere to “${heldBack}”.`;
    if (this.#input.value === shown) return; // Even an equal value would move the caret.
    this.#input.value = shown;
    if (highlight) this.#flash();
  }

  #flash() {
    systemClock.clearTimeout(this.#highlight);
    this.element.classList.remove('changed');
    void this.element.offsetWidth; // Restarts the animation if it is still running.
    this.element.classList.add('changed');
    this.#highlight = systemClock.setTimeout(() => this.element.classList.remove('changed'), HIGHLIGHT);
  }
}
