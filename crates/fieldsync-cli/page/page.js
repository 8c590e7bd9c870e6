// The page of `fieldsync serve`: which table is shown, and how its parts work together.

import { slugOf, rowsText, whatIsLeftOut } from './catalog.js';
import { systemClock } from './client/clock.js';
import { ConnectionView } from './client/connection_view.js';
import { OwnKeys } from './client/idempotency_key.js';
import { restClient } from './client/rest.js';
import { Retrier } from './client/retrier.js';
import { FieldSaver } from './client/saver.js';
import { showCode } from './code_view.js';
import { showColumns } from './columns_view.js';
import { Edits } from './edits.js';
import { element } from './element.js';
import { GridView } from './grid_view.js';
import { isSame } from './cell_value.js';
import { recordPath } from './list_page.js';
import { formatHash, parseHash } from './location_hash.js';
import { Pager } from './pager.js';
import { RecordDialog } from './record_dialog.js';
import { TableListView } from './table_list_view.js';
import { TableSession } from './table_session.js';
import { serveTabs } from './tabs.js';
import { tappedFetch, tappedSocket } from './wire_taps.js';
import { WireView } from './wire_view.js';

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {{ edits: Edits, saver: FieldSaver }} Desk  the edits of one table, which go on when another one is shown
 */

const $ = (/** @type {string} */ selector) => /** @type {any} */ (document.querySelector(selector));

const wire = new WireView();
const fetch = tappedFetch((...request) => globalThis.fetch(...request), wire.log, systemClock);
const Socket = tappedSocket(globalThis.WebSocket, wire.log, systemClock);
const liveUrl = `${location.origin.replace(/^http/, 'ws')}/live`;

const keys = new OwnKeys();
const retrier = new Retrier({ send: restClient({ fetch }) });
const connection = new ConnectionView(() => session?.tryNow(), { connected: 'Live' });
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
/** @type {Map<string, Desk>} */
const desks = new Map();

const announce = (/** @type {string} */ text) => {
  $('#status').textContent = text;
};

const grid = new GridView({
  container: $('#grid'),
  clock: systemClock,
  editOf: (id, field) => deskOf(table).edits.of(id, field),
  onInput: (id, field, input) => enter(id, field, input),
  onDiscard: (id, field) => {
    const { edits } = deskOf(table);
    if (edits.of(id, field.name)?.state !== 'refused') return;
    edits.discard(id, field.name);
    grid.refresh(id, field.name);
    announce(`Discarded what was typed into ${field.name}.`);
  },
  onSelect: (record) => {
    selected = record;
    $('#delete-record').hidden = record === undefined || !table.writable;
    $('#delete-record').textContent = `Delete ${record?.id ?? ''}`;
    showCode($('#panel-code'), table, record, announce);
  },
});

/** @param {Table} of */
function deskOf(of) {
  const found = desks.get(of.name);
  if (found !== undefined) return found;
  const edits = new Edits((key) => keys.isEchoed(key));
  const saver = new FieldSaver({
    retrier,
    urlOf: (id) => recordPath(of.name, id),
    makeKey: () => keys.make(),
    onState: (id, field, state) => {
      edits.take(id, field, state);
      if (of === table) grid.refresh(id, field);
      if (state.name === 'saved') announce(`Saved ${field} of ${id}.`);
      if (state.name === 'refused' || state.name === 'retrying') announce(`${field} of ${id}: ${edits.of(id, field).message}`);
    },
  });
  const desk = { edits, saver };
  desks.set(of.name, desk);
  return desk;
}

/**
 * The user has entered something into a cell.
 *
 * @param {number | string} id
 * @param {import('./catalog.js').Field} field
 * @param {{ value: unknown } | { text: string, message: string }} input
 */
function enter(id, field, input) {
  const { edits, saver } = deskOf(table);
  if ('message' in input) {
    edits.refuse(id, field.name, input.text, input.message);
    announce(`${field.name} of ${id}: ${input.message}`);
  } else {
    const edit = edits.of(id, field.name);
    const isUnchanged = isSame(input.value, listing?.byId.get(id)?.[field.name]);
    if (isUnchanged && (edit === undefined || edit.state === 'refused')) edits.discard(id, field.name);
    else {
      edits.begin(id, field.name, input.value);
      saver.save(id, field.name, input.value);
    }
  }
  grid.refresh(id, field.name);
}

/** Shows the table that the address names. */
function showPlace() {
  const place = parseHash(location.hash);
  const next = tables.find((one) => slugOf(one) === place.table) ?? (place.table === undefined ? firstTable() : undefined);
  session?.stop();
  session = undefined;
  listing = undefined;
  if (next === undefined) return showNothing(place.table);
  const isOther = next !== table;
  table = next;
  document.title = `${table.table} · fieldsync`;
  $('#table-name').textContent = table.table;
  $('#table-facts').replaceChildren(...facts(table));
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
  open(table, place.after);
}

const firstTable = () => tables.find(({ name }) => name !== undefined) ?? tables[0];

/** @param {string | undefined} name */
function showNothing(name) {
  table = undefined;
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
  const { edits } = deskOf(of);
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

/** @param {import('./client/records.js').Difference[]} differences */
function newsOf(differences) {
  if (differences.length > 1) return `${differences.length} records were changed elsewhere.`;
  const [{ id, before, after }] = differences;
  if (after === undefined) return `Record ${id} was deleted elsewhere.`;
  if (before === undefined) return `Record ${id} was created elsewhere.`;
  const names = Object.keys(after).filter((name) => !isSame(before[name], after[name]));
  return `${names.join(', ')} of ${id} changed elsewhere.`;
}

/**
 * @param {Table} of
 * @param {number} rows
 */
function count(of, rows) {
  of.rows = rows;
  tableList.count(of);
  if (of === table) $('#table-facts').replaceChildren(...facts(of));
}

/** @param {Table} of */
function facts({ effects, fields, key, reason, rows, view, writable }) {
  const texts = [
    typeof rows === 'number' ? `${rowsText(rows)} ${rows === 1 ? 'row' : 'rows'}` : '',
    fields === undefined ? '' : `${fields.length + 1} columns`,
    key.length > 0 ? `key ${key.join(', ')}` : '',
  ];
  const marks = [view ? 'view' : '', reason === undefined && !writable ? 'read-only' : '', ...effects];
  return [...texts.filter((text) => text !== '').map((text) => element('span', {}, text)), ...marks.flatMap(pill)];
}

/** @param {string} text */
const pill = (text) => (text === '' ? [] : [element('span', { class: 'pill' }, text)]);

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
  if ([...desks.values()].some(({ saver }) => saver.hasUnsaved)) event.preventDefault();
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
