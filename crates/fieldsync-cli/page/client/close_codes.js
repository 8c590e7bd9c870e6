// What a closed WebSocket means for the next attempt: the reason, and the delay.

const CLIENT_ERROR = 'the server did not understand this page';

/** @type {Record<number, string>} */
const REASONS = {
  1000: 'the server closed the connection',
  1001: 'the server is going away',
  1002: CLIENT_ERROR,
  1003: CLIENT_ERROR,
  1006: 'the server cannot be reached',
  1007: CLIENT_ERROR,
  1008: 'the server refused this window',
  1009: CLIENT_ERROR,
  1011: 'the server had an internal error',
  1012: 'the server is restarting',
  1013: 'the server is busy',
};

/** The server does not accept the credential any more. The reason says why. */
export const SIGNED_OUT = 4401;

/** @type {Record<string, string>} */
const SIGNED_OUT_REASONS = {
  expired: 'your session has expired',
  revoked: 'your session was ended',
};

const POLICY_VIOLATION = 1008;
const SERVER_CHOOSES_DELAY = [1012, 1013];

// Browsers fire a timer of more than 2^31 ms at once.
const LONGEST_DELAY = 3_600_000;

/**
 * @typedef {object} Absence
 * @property {string} why  for the user, without a capital letter and a full stop
 * @property {number | undefined} delay  milliseconds until the next attempt; undefined for the usual back-off
 * @property {boolean} patient  the server asked for the delay: a new network does not cut it short
 */

/**
 * @param {{ code: number, reason: string }} close
 * @param {() => number} random
 * @returns {Absence}
 */
export function absenceAfter({ code, reason }, random) {
  const why = REASONS[code] ?? `the connection was closed (${code})`;
  if (code === POLICY_VIOLATION) return refusal(reason ? `${why}: ${reason}` : why, random);
  const asked = SERVER_CHOOSES_DELAY.includes(code) ? /^retry-after-ms=(\d+)$/.exec(reason) : null;
  if (asked === null) return { why, delay: undefined, patient: false };
  return { why, delay: Math.min(Number(asked[1]), LONGEST_DELAY), patient: true };
}

/**
 * Why a socket was closed with 4401, for the user.
 *
 * @param {string} reason
 * @returns {string}
 */
export function whySignedOut(reason) {
  return SIGNED_OUT_REASONS[reason] ?? 'you have to sign in';
}

/**
 * The server refused. The next attempt is made late, but it is made, so that the user need not reload.
 *
 * @param {string} why
 * @param {() => number} random
 * @returns {Absence}
 */
export function refusal(why, random) {
  return { why, delay: 30_000 + random() * 15_000, patient: true };
}
