// The dialog that creates a record, or asks before one is deleted.

import { reasonsBeside, reasonsFor, summaryOf } from './client/problem.js';
import { element } from './element.js';
import { fieldInput } from './field_input.js';
import { hintOf, kindOf } from './field_kind.js';

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {import('./client/rest.js').Problem} Problem
 * @typedef {(values: Record<string, unknown>) => Promise<Problem | undefined>} Send  resolves to why it was refused
 */

export class RecordDialog {
  #dialog = /** @type {HTMLDialogElement} */ (document.querySelector('#record-dialog'));
  #title = document.querySelector('#record-dialog-title');
  #body = document.querySelector('#record-dialog-body');
  #error = document.querySelector('#record-dialog-error');
  #submit = /** @type {HTMLButtonElement} */ (document.querySelector('#record-dialog-submit'));
  /** @type {() => Promise<void>} */
  #onSubmit = async () => {};

  constructor() {
    document.querySelector('#record-dialog-cancel').addEventListener('click', () => this.#dialog.close());
    this.#dialog.querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#onSubmit();
    });
  }

  /**
   * @param {Table} table
   * @param {Send} send
   */
  create(table, send) {
    const fields = table.fields.filter((field) => field.set_on_create);
    const inputs = fields.map((field) => {
      const isOptional = field.nullable || field.has_default;
      const input = fieldInput(field, kindOf(field) === 'boolean' && !isOptional ? false : undefined);
      const id = `new-${field.name.replaceAll(/\s/g, '_')}`; // An id with spaces would be several to aria-describedby.
      input.control.id = id;
      const error = element('p', { class: 'message', id: `${id}-error` });
      input.control.setAttribute('aria-describedby', `${id}-error`);
      const hint = [isOptional ? 'optional' : '', hintOf(field)].filter((part) => part !== '').join(' · ');
      const label = element('label', { for: id }, field.name, element('span', { class: 'hint' }, hint));
      return { field, input, error, isOptional, box: element('div', { class: 'dialog-field', 'data-kind': kindOf(field) }, label, input.control, error) };
    });
    this.#open(`New record of ${table.table}`, 'Create', inputs.map(({ box }) => box), async () => {
      /** @type {Record<string, unknown>} */
      const values = {};
      let isValid = true;
      for (const { field, input, error, isOptional } of inputs) {
        const { control } = input;
        error.textContent = '';
        const isEmpty = control.type === 'checkbox' ? /** @type {HTMLInputElement} */ (control).indeterminate : control.value === '';
        if (isEmpty && isOptional) continue;
        const read = input.read();
        if ('message' in read) [isValid, error.textContent] = [false, read.message];
        else values[field.name] = read.value;
      }
      if (isValid) await this.#send(send, values, (problem) => {
        for (const { field, error } of inputs) error.textContent = reasonsFor(problem, field.name) ?? '';
        return inputs.map(({ field }) => field.name).filter((name) => reasonsFor(problem, name) !== undefined);
      });
    });
  }

  /**
   * @param {Table} table
   * @param {number | string} id
   * @param {Send} send
   */
  confirmDeletion(table, id, send) {
    const effects = table.effects.length === 0 ? [] : [element('p', {}, 'This also changes other tables:'),
      element('ul', {}, ...table.effects.map((effect) => element('li', {}, effect)))];
    const text = element('p', {}, `Record ${id} of ${table.table} is deleted from the database. This can't be undone.`);
    this.#open(`Delete record ${id}?`, 'Delete', [text, ...effects], () => this.#send(send, {}, () => []));
  }

  /**
   * @param {string} title
   * @param {string} action
   * @param {Node[]} body
   * @param {() => Promise<void>} onSubmit
   */
  #open(title, action, body, onSubmit) {
    this.#title.textContent = title;
    this.#submit.textContent = action;
    this.#error.textContent = '';
    this.#body.replaceChildren(...body);
    this.#onSubmit = onSubmit;
    this.#dialog.showModal();
  }

  /**
   * @param {Send} send
   * @param {Record<string, unknown>} values
   * @param {(problem: Problem) => string[]} showAtFields  returns the fields at which it is shown
   */
  async #send(send, values, showAtFields) {
    this.#error.textContent = '';
    this.#submit.disabled = true;
    const problem = await send(values).finally(() => {
      this.#submit.disabled = false;
    });
    if (problem === undefined) this.#dialog.close();
    else {
      const shown = showAtFields(problem);
      this.#error.textContent = reasonsBeside(problem, shown) ?? (shown.length > 0 ? '' : summaryOf(problem));
    }
  }
}
