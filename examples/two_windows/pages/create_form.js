// The form that creates a user. One attempt per press; a failed one keeps what was typed, and pressing again with the
// same values repeats the same write, so that an answer lost on the way does not make two users.

import { asSentence, reasonsFor, summaryOf } from './problem.js';

/**
 * @typedef {object} CreateOptions
 * @property {(write: import('./rest.js').Write) => Promise<import('./rest.js').Answer>} send
 * @property {string} url
 * @property {() => string} makeKey
 * @property {(text: string) => void} announce
 */

/**
 * @param {HTMLFormElement} form
 * @param {CreateOptions} options
 */
export function serveCreateForm(form, { send, url, makeKey, announce }) {
  const inputs = [...form.querySelectorAll('input')];
  const button = form.querySelector('button');
  const formError = form.querySelector('.form-error');
  /** @type {{ values: string, key: string } | undefined} a write whose fate is unknown */
  let unanswered;
  let busy = false;

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (busy) return;
    const body = Object.fromEntries(inputs.map((input) => [input.name, input.value]));
    const values = JSON.stringify(body);
    const key = unanswered?.values === values ? unanswered.key : makeKey();
    showBusy(true);
    showProblem(undefined);
    const answer = await send({ method: 'POST', url, key, body });
    showBusy(false);
    unanswered = answer.kind === 'unknown' ? { values, key } : undefined;
    if (answer.kind === 'done') created(answer.record, body);
    else if (answer.kind === 'refused') showProblem(answer.problem);
    else formError.textContent = `Not created: ${asSentence(answer.why)} What you typed is kept; press again.`;
  });

  /** @param {boolean} now */
  function showBusy(now) {
    busy = now;
    // Not `disabled`: that would take the focus away from whoever pressed it.
    button.setAttribute('aria-disabled', String(now));
  }

  /**
   * @param {any} record
   * @param {Record<string, string>} body
   */
  function created(record, body) {
    // Only what was sent is cleared, not what was typed while it was under way.
    for (const input of inputs) if (input.value === body[input.name]) input.value = '';
    if (form.contains(document.activeElement)) inputs[0].focus();
    announce(record === undefined ? 'User created.' : `User ${record.id} created.`);
  }

  /** @param {import('./rest.js').Problem | undefined} problem */
  function showProblem(problem) {
    let toldBesideAField = false;
    for (const input of inputs) {
      const reasons = problem && reasonsFor(problem, input.name);
      form.querySelector(`[data-error-for="${input.name}"]`).textContent = reasons ?? '';
      if (reasons === undefined) input.removeAttribute('aria-invalid');
      else input.setAttribute('aria-invalid', 'true');
      toldBesideAField ||= reasons !== undefined;
    }
    formError.textContent = problem && !toldBesideAField ? `Not created: ${summaryOf(problem)}` : '';
    if (toldBesideAField) inputs.find((input) => input.hasAttribute('aria-invalid')).focus();
  }
}
