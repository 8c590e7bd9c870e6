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
 * What a problem says of anything but these fields, which show their own messages.
 *
 * @param {Problem} problem
 * @param {string[]} fields
 * @returns {string | undefined}
 */
export function reasonsBeside({ errors = {} }, fields) {
  const others = Object.entries(errors).filter(([name]) => !fields.includes(name));
  const sentences = others.flatMap(([name, messages]) =>
    messages.map((message) => asSentence(name === '' ? message : `"${name}" ${message}`)));
  return sentences.length === 0 ? undefined : sentences.join(' ');
}

/**
 * The whole problem as sentences.
 *
 * @param {Problem} problem
 * @returns {string}
 */
export function summaryOf(problem) {
  return asSentence(whyOf(problem));
}

/**
 * The same without a capital letter and a full stop, to follow a colon.
 *
 * @param {Problem} problem
 * @returns {string}
 */
export function whyOf(problem) {
  const { detail, title, status } = problem;
  // The user can't see the headers.
  const withoutHeader = detail?.replace(/; see the Allow header$/, '');
  return reasonsBeside(problem, [])?.replace(/\.$/, '') ?? withoutHeader ?? title ?? `the server answered ${status}`;
}

/** @param {string} text */
export function asSentence(text) {
  const capitalized = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capitalized) ? capitalized : `${capitalized}.`;
}
