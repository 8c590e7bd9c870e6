// START HERE: one window. Changes come from the subscription and go to the cards. Input goes from the cards to the saver,
// and out over HTTP. The two windows differ only in the field that is editable.

import { Card } from './card.js';
import { ConnectionView } from './client/connection_view.js';
import { serveCreateForm } from './create_form.js';
import { Subscription } from './client/fieldsync.js';
import { OwnKeys } from './client/idempotency_key.js';
import { Login } from './login.js';
import { restClient } from './client/rest.js';
import { Retrier } from './client/retrier.js';
import { FieldSaver } from './client/saver.js';

/** @typedef {number | string} RecordId */

// With `--roles` the window belongs to a person, and has a path of its own to the server, to which the person's cookie is sent.
const { base = '', edits, person } = document.body.dataset;
const USERS = `${base}/api/users/`;
const userUrl = (/** @type {RecordId} */ id) => `${USERS}${id}/`;
const socketUrl = new URL(`${base}/ws/user-updates/`, location.href);
socketUrl.protocol = socketUrl.protocol === 'https:' ? 'wss:' : 'ws:';

const fields = [
  { name: 'first_name', label: 'First Name' },
  { name: 'last_name', label: 'Last Name' },
].map((field) => {
  const isOurs = field.label === edits;
  // A person may try to edit the other field as well: the server refuses that.
  return { ...field, isOurs, editable: isOurs || person !== undefined };
});

const list = /** @type {HTMLElement} */ (document.querySelector('#users'));
const heading = /** @type {HTMLElement} */ (document.querySelector('#users-heading'));
const announcements = document.querySelector('#announcements');
const announce = (/** @type {string} */ text) => { announcements.textContent = text; };

/** @type {Map<RecordId, Card>} */
const cards = new Map();
const ownKeys = new OwnKeys();
const makeKey = () => ownKeys.make();
const send = restClient();
const retrier = new Retrier({ send });

const saver = new FieldSaver({
  retrier,
  urlOf: userUrl,
  makeKey,
  onState: (id, field, state) => {
    const awaitedKey = state.name === 'saved' && !ownKeys.isEchoed(state.key) ? state.key : undefined;
    cards.get(id)?.showSaving(field, state, awaitedKey);
  },
});

const subscription = new Subscription({
  url: socketUrl.href,
  topic: 'users',
  onMessage: (differences, message) => {
    const firstLoad = message.type === 'snapshot' && cards.size === 0;
    for (const difference of differences) showDifference(difference, { firstLoad });
    const caughtUp = message.type === 'live'; // It follows a snapshot as well.
    if (caughtUp) for (const card of cards.values()) card.caughtUp();
    if (differences.length > 0 || caughtUp) showCount();
  },
  onState: (state) => {
    connection.show(state);
    login?.show(state);
    if (state.name === 'connected') retrier.tryNow();
  },
});
const login = person === undefined ? undefined : new Login({
  url: `${base}/session/`,
  onSignedIn: () => {
    subscription.tryNow();
    retrier.tryNow();
  },
});
const connection = new ConnectionView(
  () => (login?.isSignedOut ? login.signIn() : subscription.tryNow()),
  { signIn: `Sign in as ${person}` },
);

serveCreateForm(document.querySelector('#create-user'), {
  send, url: USERS, makeKey, announce, sendsEmpty: person === undefined,
});
window.addEventListener('online', () => {
  subscription.networkIsBack();
  retrier.tryNow();
});
window.addEventListener('beforeunload', (event) => {
  const cardsToSend = [...cards.values()].filter((card) => card.hasUnsent);
  for (const card of cardsToSend) card.send();
  if (saver.hasUnsaved) event.preventDefault(); // The browser asks the user whether to leave.
});
subscription.start();

/**
 * @param {import('./client/records.js').Difference} difference
 * @param {{ firstLoad: boolean }} options
 */
function showDifference({ id, after, keys }, { firstLoad }) {
  for (const key of keys) ownKeys.markEchoed(key);
  const own = keys.length > 0 && keys.every((key) => ownKeys.has(key));
  const card = cards.get(id);
  if (after === undefined) removeCard(id);
  else if (card !== undefined) card.receive(after, keys, { highlight: !own });
  else addCard(after, { arriving: !firstLoad });
}

/**
 * @param {import('./client/records.js').StoredRecord} record
 * @param {{ arriving: boolean }} options
 */
function addCard(record, { arriving }) {
  const { id } = record;
  const card = new Card({
    record,
    fields,
    announce,
    onEdit: (field, value) => saver.save(id, field, value),
    sendDelete: (onWaiting) =>
      retrier.untilAnswered({ method: 'DELETE', url: userUrl(id), key: makeKey() }, onWaiting),
  });
  card.element.classList.toggle('arriving', arriving);
  cards.set(id, card);
  // Sorted by id, so that both windows have the same order. A new user nearly always belongs at the end.
  let next = null;
  for (let last = list.lastElementChild; last !== null && isAfter(last, id); last = last.previousElementSibling) next = last;
  list.insertBefore(card.element, next);
}

/**
 * @param {Element} element
 * @param {RecordId} id
 */
function isAfter(element, id) {
  return Number(/** @type {HTMLElement} */ (element).dataset.userId) > Number(id);
}

/** @param {RecordId} id */
function removeCard(id) {
  const card = cards.get(id);
  if (card === undefined) return;
  const hadFocus = card.element.contains(document.activeElement);
  card.remove();
  cards.delete(id);
  if (hadFocus) heading.focus(); // Otherwise the focus would move to the top of the page.
}

function showCount() {
  const { loaded } = subscription.records;
  document.querySelector('#loading').toggleAttribute('hidden', loaded);
  document.querySelector('#empty').toggleAttribute('hidden', !loaded || cards.size > 0);
  heading.querySelector('.count').textContent = cards.size > 0 ? String(cards.size) : '';
}
