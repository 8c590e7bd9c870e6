// Problem details (RFC 9457) as text for users.

/** @typedef {import('./rest.js').Problem} Problem */

/**
 * @param {Problem} problem
 * @param {string} field
 * @returns {string | undefined} undefined if the problem is not about this field
 */
export function reasonsFor(problem, field) {
  const messages = problem.errors?.[field];
  return messages === undefined ? undefined : messages.map(asSentence).join(' ');
}

/**
 * @param {Problem} problem
 * @returns {string}
 */
export function summaryOf({ detail, title, status }) {
  return asSentence(detail ?? title ?? `the server answered ${status}`);
}

/** @param {string} text */
export function asSentence(text) {
  const capitalized = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capitalized) ? capitalized : `${capitalized}.`;
}
