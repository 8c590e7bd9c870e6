// One user on the page: the fields, the state of saving, and a deletion that can be undone.

import { Deletion } from './deletion.js';
import { FieldView } from './field_view.js';
import { reasonsFor, summaryOf } from './client/problem.js';

/**
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {import('./client/saver.js').SaveState} SaveState
 *
 * @typedef {object} CardOptions
 * @property {StoredRecord} record
 * @property {{ name: string, label: string, isOurs: boolean, editable: boolean }[]} fields
 * @property {(field: string, value: string) => void} onEdit
 * @property {(onWaiting: (waiting: import('./client/retrier.js').Waiting) => void) =>
 *   Promise<import('./client/retrier.js').FinalAnswer>} sendDelete
 * @property {(text: string) => void} announce  for screen readers
 */

export class Card {
  /** @type {HTMLElement} */
  element;
  /** @type {Map<string, FieldView>} */
  #fields = new Map();
  #options;
  #body;
  #error;
  #saveText;
  #time;
  #undoBar;
  /** @type {Deletion | undefined} */
  #deletion = undefined;

  /** @param {CardOptions} options */
  constructor(options) {
    this.#options = options;
    const { record, fields, onEdit } = options;
    const template = /** @type {HTMLTemplateElement} */ (document.querySelector('#card-template'));
    this.element = /** @type {HTMLElement} */ (template.content.firstElementChild.cloneNode(true));
    this.#body = /** @type {HTMLElement} */ (this.element.querySelector('.card-body'));
    this.#error = this.element.querySelector('.card-error');
    this.#saveText = this.element.querySelector('.save-text');
    this.#time = this.element.querySelector('time');
    this.#undoBar = /** @type {HTMLElement} */ (this.element.querySelector('.undo-bar'));

    this.element.dataset.userId = String(record.id);
    const heading = this.element.querySelector('h3');
    heading.textContent = `User ID: ${record.id}`;
    heading.id = `user-${record.id}-heading`;
    this.element.setAttribute('aria-labelledby', heading.id);
    for (const { name, label, isOurs, editable } of fields) {
      const field = new FieldView({
        name, label, isOurs, editable,
        idPrefix: `user-${record.id}`,
        value: String(record[name] ?? ''),
        onEdit: (value) => onEdit(name, value),
        onDiscard: () => this.#idle(),
      });
      this.#fields.set(name, field);
      this.element.querySelector('.fields').append(field.element);
    }
    const deleteButton = this.#button('.delete', `Delete user ${record.id}`);
    deleteButton.addEventListener('click', () => this.#startDeletion());
    const undoButton = this.#button('.undo', `Undo deleting user ${record.id}`);
    undoButton.addEventListener('click', () => this.#endDeletion(''));
    this.#showTime(record);
  }

  get hasUnsent() {
    return [...this.#fields.values()].some((field) => field.hasUnsent);
  }

  /** Sends what was typed, without waiting for a pause. */
  send() {
    for (const field of this.#fields.values()) field.send();
  }

  /**
   * @param {StoredRecord} record
   * @param {string[]} keys
   * @param {{ highlight: boolean }} options
   */
  receive(record, keys, options) {
    for (const [name, field] of this.#fields) field.receive(String(record[name] ?? ''), keys, options);
    this.#showTime(record);
  }

  caughtUp() {
    for (const field of this.#fields.values()) field.caughtUp();
  }

  /**
   * @param {string} fieldName
   * @param {SaveState} state
   * @param {string | undefined} awaitedKey
   */
  showSaving(fieldName, state, awaitedKey) {
    const field = this.#fields.get(fieldName);
    const before = this.element.dataset.saveState;
    this.element.dataset.saveState = state.name;
    switch (state.name) {
      case 'saving':
        this.#saveText.textContent = 'Saving…';
        break;
      case 'retrying':
        this.#saveText.textContent = 'Not saved yet, retrying';
        if (before !== 'retrying') this.#options.announce(`Not saved yet: ${state.why}. Retrying.`);
        break;
      case 'saved':
        this.#saveText.textContent = 'Saved';
        field.saved(state.value, awaitedKey);
        break;
      case 'refused':
        this.#saveText.textContent = 'Not saved';
        field.refused(state.value, reasonsFor(state.problem, fieldName) ?? summaryOf(state.problem));
    }
  }

  /** Removes the card of a deleted record. */
  remove() {
    this.#deletion?.cancel();
    this.element.remove();
  }

  #idle() {
    this.element.dataset.saveState = 'idle';
    this.#saveText.textContent = '';
  }

  #startDeletion() {
    this.send();
    this.#error.textContent = '';
    const text = this.#undoBar.querySelector('.undo-text');
    const left = this.#undoBar.querySelector('.undo-left');
    const undo = /** @type {HTMLElement} */ (this.#undoBar.querySelector('.undo'));
    text.textContent = 'Deleted.';
    undo.hidden = false;
    this.#showUndo(true);
    undo.focus();
    this.#options.announce(`User ${this.element.dataset.userId} deleted. You can undo this for 5 seconds.`);
    this.#deletion = new Deletion({
      onTick: (seconds) => { left.textContent = `${seconds} s`; },
      onDue: () => {
        const hadFocus = document.activeElement === undo;
        undo.hidden = true;
        if (hadFocus) this.element.focus();
        left.textContent = '';
        text.textContent = 'Deleting…';
        this.#delete(text);
      },
    });
  }

  /** @param {Element} text */
  async #delete(text) {
    const answer = await this.#options.sendDelete(({ why }) => {
      text.textContent = `Not deleted yet: ${why}. Retrying.`;
    });
    // The stream removes the card, as in other windows.
    if (answer.kind === 'done' || [404, 410].includes(answer.problem.status)) text.textContent = 'Deleted.';
    else this.#endDeletion(summaryOf(answer.problem));
  }

  /** @param {string} why  the reason why it was not deleted; empty if the user undid it */
  #endDeletion(why) {
    this.#deletion?.cancel();
    this.#showUndo(false);
    this.#error.textContent = why === '' ? '' : `Not deleted: ${why}`;
    if (why === '') /** @type {HTMLElement} */ (this.element.querySelector('.delete')).focus();
  }

  /** @param {boolean} shown */
  #showUndo(shown) {
    this.#undoBar.hidden = !shown;
    this.#body.inert = shown;
    this.element.classList.toggle('deleted', shown);
  }

  /** @param {StoredRecord} record */
  #showTime({ updated_at: updatedAt }) {
    const time = new Date(String(updatedAt));
    if (Number.isNaN(time.getTime())) return;
    this.#time.dateTime = String(updatedAt);
    this.#time.textContent = time.toLocaleTimeString();
    this.#time.title = time.toLocaleString();
  }

  /**
   * @param {string} selector
   * @param {string} name  for screen readers: outside of its card, "Delete" does not say of what
   */
  #button(selector, name) {
    const button = this.element.querySelector(selector);
    button.setAttribute('aria-label', name);
    return button;
  }
}
