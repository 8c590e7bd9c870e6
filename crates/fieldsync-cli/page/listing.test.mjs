import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock, settled } from './client/fake_clock.mjs';
import { hasAddress, listPath, nextAfter, readPage, recordPath } from './list_page.js';
import { Listing } from './listing.js';
import { TableSession } from './table_session.js';

const page = (ids, next) => ({ records: ids.map((id) => ({ id, name: `n${id}` })), cursor: 'c0', next });
const change = (id, action, fields, more = {}) => ({ type: 'change', sub: 't', id, action, fields, cursor: `c-${id}-${action}`, ...more });
const idsOf = (listing) => [...listing.byId.keys()];

test('an update of a shown record is merged, and one of another record is ignored', () => {
  const listing = new Listing(page([1, 2], undefined), undefined);
  const [difference] = listing.apply(change(2, 'update', { name: 'new' }, { key: 'k' }));
  assert.deepEqual(difference, { id: 2, before: { id: 2, name: 'n2' }, after: { id: 2, name: 'new' }, keys: ['k'] });
  assert.deepEqual(listing.apply(change(9, 'update', { name: 'x' })), []);
  assert.deepEqual(idsOf(listing), [1, 2]);
  assert.equal(listing.cursor, 'c-9-update');
});

test('a new record is inserted where it belongs on the page', () => {
  const listing = new Listing(page([1, 5, 9], '9'), undefined);
  listing.apply(change(7, 'create', { name: 'n7' }));
  assert.deepEqual(idsOf(listing), [1, 5, 7, 9]);
  listing.apply(change(10, 'create', { name: 'n10' }));
  assert.deepEqual(idsOf(listing), [1, 5, 7, 9], 'it is on a later page');
  assert.deepEqual([listing.createdElsewhere, listing.growth], [1, 2]);
});

test('the last page grows at its end', () => {
  const listing = new Listing(page([51, 52], undefined), '50');
  listing.apply(change(53, 'create', {}));
  listing.apply(change(3, 'create', {}));
  assert.deepEqual([idsOf(listing), listing.createdElsewhere], [[51, 52, 53], 1]);
});

test('large integers that arrive as text are in the order of numbers', () => {
  const listing = new Listing(page([9, '9007199254740993'], undefined), undefined);
  listing.apply(change(10, 'create', {}));
  assert.deepEqual(idsOf(listing), [9, 10, '9007199254740993']);
});

test('a new record with a text id stands last on the last page', () => {
  const last = new Listing(page(['1,2', '1,10'], undefined), '1,1');
  last.apply(change('1,3', 'create', {}));
  assert.deepEqual(idsOf(last), ['1,2', '1,10', '1,3']);
  const middle = new Listing(page(['1,2'], '1,2'), undefined);
  middle.apply(change('1,3', 'create', {}));
  assert.deepEqual([idsOf(middle), middle.createdElsewhere], [['1,2'], 1]);
});

test('a page does not grow without limit', () => {
  const listing = new Listing(page([1], undefined), undefined);
  for (let id = 2; id < 1000; id += 1) listing.apply(change(id, 'create', {}));
  assert.equal(listing.byId.size, 201);
  assert.equal(listing.createdElsewhere, 798);
});

test('a deletion removes the record', () => {
  const listing = new Listing(page([1, 2], undefined), undefined);
  const [{ id, after }] = listing.apply(change(1, 'delete', undefined));
  assert.deepEqual([id, after, idsOf(listing), listing.growth], [1, undefined, [2], -1]);
});

test('missed changes are applied together', () => {
  const listing = new Listing(page([1, 2], undefined), undefined);
  const changes = [{ id: 1, action: 'update', fields: { name: 'a' }, keys: ['k1', 'k2'] }, { id: 2, action: 'delete' }];
  const differences = listing.apply({ type: 'changes', sub: 't', folded: true, changes, cursor: 'c9' });
  assert.deepEqual(differences.map(({ id, keys }) => [id, keys]), [[1, ['k1', 'k2']], [2, []]]);
  assert.deepEqual([idsOf(listing), listing.cursor], [[1], 'c9']);
});

test('after a reset the page is stale, and the snapshot is not applied', () => {
  const listing = new Listing(page([1], undefined), undefined);
  listing.apply({ type: 'reset', sub: 't', reason: 'trimmed' });
  assert.equal(listing.isStale, true);
  assert.deepEqual(listing.apply({ type: 'snapshot', sub: 't', records: [{ id: 5 }], cursor: 'c5' }), []);
  assert.deepEqual(idsOf(listing), [1]);
});

test('the next page is read from the Link header', () => {
  assert.equal(nextAfter('</api/a/?after=1,2&limit=2>; rel="next"'), '1,2');
  assert.equal(nextAfter('</api/a/?limit=2&after=a%26b%20c>; rel=next'), 'a&b c');
  assert.equal(nextAfter('</x>; rel="prev", </api/a/?after=7>; title="x"; rel="next"'), '7');
  assert.equal(nextAfter('</api/a/?after=7>; rel="prev"'), undefined);
  assert.equal(nextAfter(null), undefined);
});

test('paths escape names and ids', () => {
  assert.equal(recordPath('a b', 'x/y?z'), '/api/a%20b/x%2Fy%3Fz/');
  assert.equal(listPath('t', 'a&b'), '/api/t/?limit=50&after=a%26b');
});

test('a record without an address is one that a URL takes for another path', () => {
  for (const id of ['.', '..', '', '...', '.a', '%2e', '/', 'a/..', 7]) {
    const { pathname } = new URL(recordPath('t', id), 'http://h');
    const reachesRecord = pathname === recordPath('t', id) && /^\/api\/t\/[^/]+\/$/.test(pathname);
    assert.equal(hasAddress(id), reachesRecord, String(id));
  }
});

test('a page is read with its cursor, and a refusal with its problem', async () => {
  const headers = { 'Fieldsync-Cursor': 'c1', Link: '</api/t/?after=2>; rel="next"' };
  const read = await readPage(async () => new Response('[{"id":1},{"id":2}]', { headers }), 't', undefined);
  assert.deepEqual(read, { kind: 'page', page: { records: [{ id: 1 }, { id: 2 }], cursor: 'c1', next: '2' } });
  const refused = await readPage(async () => new Response('<html>', { status: 404 }), 't', undefined);
  assert.deepEqual(refused, { kind: 'refused', problem: { status: 404 } });
});

/** A session with sockets and replies that the test controls. */
function startSession(replies) {
  const clock = new FakeClock();
  const [sockets, listings, states, refusals] = [[], [], [], []];
  class Socket {
    sent = [];
    constructor() {
      sockets.push(this);
    }
    send(data) {
      this.sent.push(JSON.parse(data));
    }
    close() {
      this.closed = true;
    }
  }
  const session = new TableSession({
    collection: 't',
    after: undefined,
    liveUrl: 'ws://x/live',
    fetch: async () => replies.shift()(),
    WebSocket: Socket,
    clock,
    onListing: (listing) => listings.push(listing),
    onMessage: () => {},
    onState: ({ name }) => states.push(name),
    onRefused: (why) => refusals.push(why),
  });
  return { clock, session, sockets, listings, states, refusals };
}
const list = (ids, cursor) => () => new Response(JSON.stringify(ids.map((id) => ({ id }))), { headers: { 'Fieldsync-Cursor': cursor } });

test('the subscription starts from the cursor of the list', async () => {
  const { session, sockets, states } = startSession([list([1], 'c1')]);
  session.start();
  await settled();
  sockets[0].onopen();
  assert.deepEqual(sockets[0].sent, [{ type: 'subscribe', topic: 't', since: 'c1' }]);
  sockets[0].onmessage({ data: '{"type":"live","collection":"t","cursor":"c1"}' });
  assert.equal(states.at(-1), 'connected');
  session.stop();
  assert.equal(sockets[0].closed, true);
});

test('after a reset the list is read again instead of a snapshot of the whole table', async () => {
  const { session, sockets, listings } = startSession([list([1], 'c1'), list([1, 2], 'c2')]);
  session.start();
  await settled();
  sockets[0].onopen();
  sockets[0].onmessage({ data: '{"type":"reset","sub":"t","reason":"trimmed"}' });
  await settled();
  assert.equal(sockets[0].closed, true);
  assert.deepEqual(idsOf(listings[1]), [1, 2]);
  sockets[1].onopen();
  assert.equal(sockets[1].sent[0].since, 'c2');
});

test('a list that can not be read is tried again, and a refusal is final', async () => {
  const { clock, session, listings, refusals, states } = startSession([
    () => Promise.reject(new TypeError('network')),
    () => new Response('{}', { status: 503 }),
    () => new Response('{"detail":"no such collection"}', { status: 404 }),
  ]);
  session.start();
  await settled();
  assert.equal(states.at(-1), 'disconnected');
  await clock.advance(20_000);
  await clock.advance(20_000);
  assert.deepEqual([listings, refusals], [[], ['No such collection.']]);
});
