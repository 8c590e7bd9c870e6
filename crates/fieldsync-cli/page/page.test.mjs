import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { matching, restrictionOf, slugOf } from './catalog.js';
import { FakeClock } from './client/fake_clock.mjs';
import { Edits } from './edits.js';
import { cellAfterKey } from './grid_keys.js';
import { formatHash, parseHash } from './location_hash.js';
import { curlSnippets, scriptSnippets, shellWord } from './snippets.js';
import { describeMessage, WireLog } from './wire_log.js';
import { tappedFetch, tappedSocket } from './wire_taps.js';

const HOSTILE = `a'b"c $(id) \`id\` \\ é\n</script>`;

test('the hash keeps the table and the page', () => {
  for (const place of [{ table: 'Album', after: undefined }, { table: 'a/b ?#&%', after: '1,2 &=' }, { table: '!loose', after: undefined }]) {
    assert.deepEqual(parseHash(formatHash(place)), place);
  }
  assert.deepEqual(parseHash(''), { table: undefined, after: undefined });
  assert.deepEqual(parseHash('#/%'), { table: undefined, after: undefined });
  assert.equal(formatHash({ table: 'Album', after: '50' }), '#/Album?after=50');
});

test('served tables come first among those that match', () => {
  const tables = [{ table: 'loose' }, { table: 'public.Film', name: 'film' }, { table: 'filter' }];
  assert.deepEqual(matching(tables, 'fil').map(slugOf), ['film', '!filter']);
  assert.deepEqual(matching(tables, '').map(slugOf), ['film', '!loose', '!filter']);
});

test('the restriction of a table names what can not be done', () => {
  assert.equal(restrictionOf({ creatable: true, writable: true }), '');
  assert.match(restrictionOf({ creatable: false, writable: false }), /^Read-only: .*created, edited or deleted/);
  assert.match(restrictionOf({ creatable: true, writable: false }), /^Read-only: .*edited or deleted/);
  assert.match(restrictionOf({ creatable: false, writable: true }), /^Records can't be created/);
});

test('a shell reads a quoted word as it was', () => {
  for (const text of [HOSTILE, '', 'plain', '-x', '!1', '~', '*', 'a b']) {
    assert.equal(execFileSync('sh', ['-c', `printf %s ${shellWord(text)}`]).toString(), text);
  }
  assert.equal(shellWord('http://127.0.0.1:8000/api/a/'), 'http://127.0.0.1:8000/api/a/');
});

const TABLE = { name: 'a', table: 'a', writable: true, fields: [{ name: 'k', read_only: true }, { name: "t'x", read_only: false }] };

test('the snippets of a record contain its values, and are valid', () => {
  const record = { id: "1'2", k: 1, "t'x": HOSTILE };
  const patch = curlSnippets(TABLE, record, 'http://h:1').at(-1).text;
  const words = execFileSync('sh', ['-c', `curl() { printf '%s\\0' "$@"; }; ${patch}`]).toString().split('\0');
  assert.deepEqual(JSON.parse(words[words.indexOf('-d') + 1]), { "t'x": HOSTILE });
  assert.equal(words.at(-2), `http://h:1/api/a/1'2/`);
  for (const { text } of scriptSnippets(TABLE, record, 'http://h:1')) assert.doesNotThrow(() => new (async () => {}).constructor(text));
});

test('without a record or where nothing can be written there is no edit to copy', () => {
  assert.deepEqual(curlSnippets(TABLE, undefined, 'http://h').map(({ title }) => title), ['Read a page of records', 'Follow the changes']);
  const texts = [...curlSnippets({ ...TABLE, writable: false }, { id: 1 }, 'http://h'), ...scriptSnippets({ ...TABLE, writable: false }, { id: 1 }, 'http://h')];
  assert.equal(texts.some(({ text }) => text.includes('PATCH')), false);
});

test('a record without an address has no lines to copy', () => {
  const texts = [...curlSnippets(TABLE, { id: '..' }, 'http://h'), ...scriptSnippets(TABLE, { id: '..' }, 'http://h')];
  assert.equal(texts.some(({ text }) => text.includes('..') || text.includes('PATCH')), false);
});

test('arrow keys stop at the edges of the grid', () => {
  const size = { rows: 3, columns: 2 };
  const after = (key, row, column, more) => cellAfterKey({ key, ...more }, { row, column }, size);
  assert.deepEqual(after('ArrowUp', 0, 1), { row: 0, column: 1 });
  assert.deepEqual(after('ArrowDown', 0, 1), { row: 1, column: 1 });
  assert.deepEqual(after('ArrowRight', 1, 1), { row: 1, column: 1 });
  assert.deepEqual(after('End', 1, 0, { ctrlKey: true }), { row: 2, column: 1 });
  assert.deepEqual(after('Home', 2, 1), { row: 2, column: 0 });
  assert.deepEqual(after('PageDown', 0, 0), { row: 2, column: 0 });
  assert.equal(after('Tab', 0, 0), undefined);
});

test('a cell shows what was entered until the change arrives', () => {
  const echoed = new Set();
  const edits = new Edits((key) => echoed.has(key));
  edits.begin(1, 'a', 'new');
  edits.take(1, 'a', { name: 'saving' });
  assert.deepEqual(edits.of(1, 'a'), { value: 'new', state: 'saving' });
  edits.received(1);
  assert.equal(edits.of(1, 'a').state, 'saving', 'the change of another edit does not end this one');
  edits.take(1, 'a', { name: 'saved', value: 'new', key: 'k', record: { id: 1, a: 'New' } });
  assert.deepEqual(edits.of(1, 'a'), { value: 'New', state: 'saved' });
  edits.received('1');
  edits.received(11);
  assert.equal(edits.of(1, 'a').state, 'saved');
  edits.received(1);
  assert.equal(edits.of(1, 'a'), undefined);
});

test('a reply that comes after the change leaves nothing behind', () => {
  const edits = new Edits(() => true);
  edits.begin(1, 'a', 'new');
  edits.take(1, 'a', { name: 'saved', value: 'new', key: 'k', record: { id: 1, a: 'new' } });
  assert.equal(edits.of(1, 'a'), undefined);
});

test('a refused value stays with its message', () => {
  const edits = new Edits(() => false);
  edits.begin('x y', 'a', -1);
  edits.take('x y', 'a', { name: 'refused', value: -1, problem: { status: 422, errors: { a: ['is too small', 'is odd'] } } });
  assert.deepEqual(edits.of('x y', 'a'), { value: -1, state: 'refused', message: 'Is too small. Is odd.' });
  edits.take('x y', 'b', { name: 'refused', value: 1, problem: { status: 422, errors: { '': ['end is before begin'] } } });
  assert.equal(edits.of('x y', 'b').message, 'End is before begin.');
  edits.take('x y', 'c', { name: 'refused', value: 1, problem: { status: 403, detail: 'the server is read-only' } });
  assert.equal(edits.of('x y', 'c').message, 'The server is read-only.');
  edits.take('x y', 'd', { name: 'refused', value: 1, problem: { status: 422, detail: 'see "errors"', errors: { hidden: ['is required'] } } });
  assert.equal(edits.of('x y', 'd').message, '"hidden" is required.');
  edits.received('x y');
  assert.equal(edits.of('x y', 'a').state, 'refused');
  edits.discard('x y', 'a');
  assert.equal(edits.of('x y', 'a'), undefined);
});

test('the log keeps the latest entries', () => {
  const log = new WireLog(() => {});
  for (let at = 0; at < 120; at += 1) log.add({ at });
  assert.deepEqual([log.entries.length, log.entries[0].at, log.entries.at(-1).at], [50, 70, 119]);
});

test('messages are described in a few words', () => {
  assert.equal(describeMessage('{"type":"change","sub":"a","id":1,"action":"update","fields":{"x":1,"y":2}}'), 'change a/1 update: x, y');
  assert.equal(describeMessage('{"type":"changes","sub":"a","changes":[{},{}]}'), 'changes a (2)');
  assert.equal(describeMessage('{"type":"error","sub":"a","problem":{"detail":"no"}}'), 'error a: no');
  assert.equal(describeMessage('nonsense'), 'a message that is not JSON');
});

test('requests and messages are logged with their sizes', async () => {
  const clock = new FakeClock();
  const log = new WireLog(() => {});
  const fetch = tappedFetch(async () => {
    await clock.advance(7);
    return new Response('{}', { status: 201, headers: { 'Content-Length': '2' } });
  }, log, clock);
  await fetch('/api/a/', { method: 'POST', body: '"é"' });
  const [sent, received] = log.entries;
  assert.deepEqual([sent.direction, sent.method, sent.bytes], ['out', 'POST', 4]);
  assert.deepEqual([received.status, received.bytes, received.milliseconds], ['201', 2, 7]);

  class Plain extends EventTarget {
    send() {}
  }
  const Socket = tappedSocket(Plain, log, clock);
  const socket = new Socket('ws://x');
  socket.send('{"type":"subscribe","topic":"a"}');
  socket.dispatchEvent(Object.assign(new Event('message'), { data: '{"type":"live","collection":"a"}' }));
  assert.deepEqual(log.entries.slice(2).map(({ direction, what, bytes }) => [direction, what, bytes]), [['out', 'subscribe a', 32], ['in', 'live a', 32]]);
});
