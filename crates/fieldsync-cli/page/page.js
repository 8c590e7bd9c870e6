// The page of `fieldsync serve`: which table is shown, and how its parts work together.

import { isSame, patchOf } from './cell_value.js';
import { restrictionOf, slugOf, whatIsLeftOut } from './catalog.js';
import { systemClock } from './client/clock.js';
import { ConnectionView } from './client/connection_view.js';
import { OwnKeys } from './client/idempotency_key.js';
import { restClient } from './client/rest.js';
import { Retrier } from './client/retrier.js';
import { showCode } from './code_view.js';
import { showColumns } from './columns_view.js';
import { Desks } from './desks.js';
import { GridView } from './grid_view.js';
import { hasAddress, recordPath } from './list_page.js';
import { parseHash } from './location_hash.js';
import { newsOf } from './news.js';
import { Pager } from './pager.js';
import { RecordDialog } from './record_dialog.js';
import { factsOf, pill } from './table_facts.js';
import { TableListView } from './table_list_view.js';
import { TableSession } from './table_session.js';
import { serveTabs } from './tabs.js';
import { tappedFetch, tappedSocket } from './wire_taps.js';
import { WireView } from './wire_view.js';

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 */

const $ = (/** @type {string} */ selector) => /** @type {any} */ (document.querySelector(selector));

const wire = new WireView();
const fetch = tappedFetch((...request) => globalThis.fetch(...request), wire.log, systemClock);
const Socket = tappedSocket(globalThis.WebSocket, wire.log, systemClock);
const liveUrl = `${location.origin.replace(/^http/, 'ws')}/live`;

const keys = new OwnKeys();
const retrier = new Retrier({ send: restClient({ fetch }) });
const tryNow = () => {
  retrier.tryNow();
  session?.tryNow();
};
const connection = new ConnectionView(tryNow, { connected: 'Live' });
const tableList = new TableListView();
const dialog = new RecordDialog();
const pager = new Pager();

/** @type {Table[]} */
let tables = [];
/** @type {Table | undefined} */
let table;
/** @type {TableSession | undefined} */
let session;
/** @type {import('./listing.js').Listing | undefined} */
let listing;
/** @type {StoredRecord | undefined} */
let selected;

const announce = (/** @type {string} */ text) => {
  $('#status').textContent = text;
};

const desks = new Desks({
  keys,
  retrier,
  onEdit: (of, id, field, state, edit) => {
    if (of === table) grid.refresh(id, field);
    if (state === 'saved') announce(`Saved ${field} of ${id}.`);
    if (state === 'refused' || state === 'retrying') announce(`${field} of ${id}: ${edit.message}`);
  },
});

const grid = new GridView({
  container: $('#grid'),
  clock: systemClock,
  editOf: (id, field) => desks.of(table).edits.of(id, field),
  onInput: (id, field, input) => enter(id, field, input),
  onDiscard: (id, field) => {
    const { edits } = desks.of(table);
    if (edits.of(id, field.name)?.state !== 'refused') return;
    edits.discard(id, field.name);
    grid.refresh(id, field.name);
    announce(`Discarded what was typed into ${field.name}.`);
  },
  onSelect: (record) => {
    selected = record;
    $('#delete-record').hidden = record === undefined || !table.writable || !hasAddress(record.id);
    $('#delete-record').textContent = `Delete ${shortened(String(record?.id ?? ''))}`;
    // Before one is selected, the lines are about the first record.
    showCode($('#panel-code'), table, record ?? listing?.byId.values().next().value, announce);
  },
});

/**
 * The user has entered something into a cell.
 *
 * @param {number | string} id
 * @param {import('./catalog.js').Field} field
 * @param {{ value: unknown } | { text: string, message: string }} input
 */
function enter(id, field, input) {
  const { edits, saver } = desks.of(table);
  if ('message' in input) {
    edits.refuse(id, field.name, input.text, input.message);
    announce(`${field.name} of ${id}: ${input.message}`);
  } else {
    const edit = edits.of(id, field.name);
    const current = listing?.byId.get(id)?.[field.name];
    const isUnchanged = isSame(input.value, current);
    if (isUnchanged && (edit === undefined || edit.state === 'refused')) edits.discard(id, field.name);
    else {
      edits.begin(id, field.name, input.value);
      saver.save(id, field.name, patchOf(input.value, current));
    }
  }
  grid.refresh(id, field.name);
}

/** @param {string} id */
const shortened = (id) => (id.length > 14 ? `${id.slice(0, 13)}…` : id);

/** Shows the table that the address names. */
function showPlace() {
  const place = parseHash(location.hash);
  const next = tables.find((one) => slugOf(one) === place.table) ?? (place.table === undefined ? firstTable() : undefined);
  session?.stop();
  session = undefined;
  listing = undefined;
  // Before the table changes: an open editor belongs to it.
  if (next?.name === undefined && table?.name !== undefined) grid.clear();
  if (next === undefined) return showNothing(place.table);
  const isOther = next !== table;
  table = next;
  document.title = `${table.table} · fieldsync`;
  $('#table-name').textContent = table.table;
  $('#table-facts').replaceChildren(...factsOf(table));
  if (isOther) announce('');
  tableList.choose(table);
  $('#sections').hidden = table.name === undefined;
  $('#connection').hidden = table.name === undefined;
  showProblem(table.name === undefined ? `This ${table.view ? 'view' : 'table'} can't be served: ${table.reason}.` : undefined);
  if (table.name === undefined) return;
  if (isOther) {
    $('#tab-columns').replaceChildren('Columns', ...pill(whatIsLeftOut(table)));
    showColumns($('#panel-columns'), table);
    grid.show(table, []);
  }
  $('#new-record').hidden = !table.creatable;
  $('.keys').hidden = !table.writable;
  $('#read-only').textContent = restrictionOf(table);
  $('#read-only').hidden = restrictionOf(table) === '';
  open(table, place.after);
}

const firstTable = () => tables.find(({ name }) => name !== undefined) ?? tables[0];

/** @param {string | undefined} name */
function showNothing(name) {
  table = undefined;
  document.title = 'fieldsync';
  announce('');
  tableList.choose(undefined);
  $('#connection').hidden = true;
  $('#table-name').textContent = 'No such table';
  $('#table-facts').replaceChildren();
  $('#sections').hidden = true;
  showProblem(name === undefined ? 'The database has no tables.' : `There is no table ${name}.`);
}

/** @param {string | undefined} text */
function showProblem(text) {
  $('#table-problem').hidden = text === undefined;
  $('#table-problem').textContent = text ?? '';
}

/**
 * @param {Table} of
 * @param {string | undefined} after
 */
function open(of, after) {
  const { edits } = desks.of(of);
  // The connection of a page takes over from that of the page before: the state is not shown in between.
  let hasTakenOver = $('#connection').dataset.state !== 'connected';
  const opened = new TableSession({
    collection: of.name,
    after,
    liveUrl,
    fetch,
    WebSocket: Socket,
    clock: systemClock,
    onState: (state) => {
      hasTakenOver ||= state.name !== 'connecting';
      if (state.name === 'connected') retrier.tryNow(); // The server is back.
      if (hasTakenOver) connection.show(state);
    },
    onRefused: showProblem,
    onListing: (read, next) => {
      listing = read;
      grid.show(of, [...read.byId.values()]);
      if (after === undefined && next === undefined) count(of, read.byId.size);
      pager.show(of, after, next, read);
    },
    onMessage: (differences, message) => {
      const isOwn = (/** @type {string[]} */ by) => by.some((key) => keys.has(key));
      for (const { id, keys: by } of differences) {
        by.forEach((key) => keys.markEchoed(key));
        edits.received(id);
      }
      grid.apply(differences, [...listing.byId.keys()], ({ keys: by }) => !isOwn(by));
      const others = differences.filter(({ keys: by }) => !isOwn(by));
      if (others.length > 0) announce(newsOf(others));
      if (listing.growth !== 0) count(of, Math.max(0, (of.rows ?? 0) + listing.growth));
      listing.growth = 0;
      if (message.type !== 'live') pager.show(of, after, undefined, listing);
    },
  });
  session = opened;
  opened.start();
}

/**
 * @param {Table} of
 * @param {number} rows
 */
function count(of, rows) {
  of.rows = rows;
  tableList.count(of);
  if (of === table) $('#table-facts').replaceChildren(...factsOf(of));
}

$('#new-record').addEventListener('click', () => {
  const of = table;
  dialog.create(of, async (body) => {
    const write = { method: /** @type {const} */ ('POST'), url: `/api/${encodeURIComponent(of.name)}/`, key: keys.make(), body };
    const answer = await retrier.untilAnswered(write, ({ why }) => announce(`Not created yet: ${why}.`));
    if (answer.kind === 'refused') return answer.problem;
    announce(`Created record ${answer.record.id}.`);
    return undefined;
  });
});

$('#delete-record').addEventListener('click', () => {
  const [of, { id }] = [table, selected];
  dialog.confirmDeletion(of, id, async () => {
    const write = { method: /** @type {const} */ ('DELETE'), url: recordPath(of.name, id), key: keys.make() };
    const answer = await retrier.untilAnswered(write, ({ why }) => announce(`Not deleted yet: ${why}.`));
    if (answer.kind === 'refused') return answer.problem;
    announce(`Deleted record ${id}.`);
    return undefined;
  });
});

serveTabs($('[role=tablist]'), () => {});
addEventListener('hashchange', showPlace);
addEventListener('online', () => session?.networkIsBack());
addEventListener('beforeunload', (event) => {
  if (desks.hasUnsaved) event.preventDefault();
});

const reply = await fetch('/api/', { headers: { Accept: 'application/json' } }).catch(() => undefined);
if (reply?.ok) {
  tables = (await reply.json()).collections;
  tableList.show(tables);
  showPlace();
} else {
  $('#table-name').textContent = 'No tables';
  showProblem('The list of tables could not be read. Reload the page when the server runs.');
}
