// The form that creates a user. Each press is one attempt. After a failure the values stay in the form, and pressing again
// with the same values retries the same write, so that a lost reply does not create two users.

import { asSentence, reasonsFor, summaryOf } from './client/problem.js';

/**
 * @typedef {object} CreateOptions
 * @property {(write: import('./client/rest.js').Write) => Promise<import('./client/rest.js').Answer>} send
 * @property {string} url
 * @property {() => string} makeKey
 * @property {(text: string) => void} announce
 * @property {boolean} sendsEmpty  whether fields without a value are sent, too
 */

/**
 * @param {HTMLFormElement} form
 * @param {CreateOptions} options
 */
export function serveCreateForm(form, { send, url, makeKey, announce, sendsEmpty }) {
  const inputs = [...form.querySelectorAll('input')];
  const button = form.querySelector('button');
  const formError = form.querySelector('.form-error');
  /** @type {{ values: string, key: string } | undefined} a write without an answer */
  let unanswered;
  let busy = false;

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (busy) return;
    const sent = inputs.filter((input) => sendsEmpty || input.value !== '');
    const body = Object.fromEntries(sent.map((input) => [input.name, input.value]));
    const values = JSON.stringify(body);
    const key = unanswered?.values === values ? unanswered.key : makeKey();
    showBusy(true);
    showProblem(undefined);
    const answer = await send({ method: 'POST', url, key, body });
    showBusy(false);
    unanswered = answer.kind === 'unknown' ? { values, key } : undefined;
    if (answer.kind === 'done') created(answer.record, body);
    else if (answer.kind === 'refused') showProblem(answer.problem);
    else formError.textContent = `Not created: ${asSentence(answer.why)} Your input was kept. Press the button to try again.`;
  });

  /** @param {boolean} now */
  function showBusy(now) {
    busy = now;
    // Not `disabled`, which would take the focus from the button.
    button.setAttribute('aria-disabled', String(now));
  }

  /**
   * @param {any} record
   * @param {Record<string, string>} body
   */
  function created(record, body) {
    // Only the values that were sent are cleared, not what was typed meanwhile.
    for (const input of inputs) if (input.value === body[input.name]) input.value = '';
    if (form.contains(document.activeElement)) inputs[0].focus();
    announce(record === undefined ? 'User created.' : `User ${record.id} created.`);
  }

  /** @param {import('./client/rest.js').Problem | undefined} problem */
  function showProblem(problem) {
    let shownBesideAField = false;
    for (const input of inputs) {
      const reasons = problem && reasonsFor(problem, input.name);
      form.querySelector(`[data-error-for="${input.name}"]`).textContent = reasons ?? '';
      if (reasons === undefined) input.removeAttribute('aria-invalid');
      else input.setAttribute('aria-invalid', 'true');
      shownBesideAField ||= reasons !== undefined;
    }
    formError.textContent = problem && !shownBesideAField ? `Not created: ${summaryOf(problem)}` : '';
    if (shownBesideAField) inputs.find((input) => input.hasAttribute('aria-invalid')).focus();
  }
}
