import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isSame, parseText, shortTextOf, textOf } from '../cell_value.js';
import { readPage } from '../list_page.js';
import { curlSnippets, scriptSnippets } from '../snippets.js';
import { Subscription } from './fieldsync.js';
import { parseExact } from './records.js';
import { restClient } from './rest.js';

const LONG = '{"n":12345678901234567890123,"f":1.5,"m":1}';
const FIELD = { name: 'meta', schema: {}, nullable: true };

// Node.js 20 has JSON.rawJSON behind a flag. Node.js 18 has none; the tests in the browser show the same.
const FLAG = '--harmony-json-parse-with-source';
const hasFlag = () => execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' }).includes(FLAG);

if (JSON.rawJSON === undefined) {
  if (hasFlag()) {
    test('with JSON.rawJSON', () => {
      const { NODE_TEST_CONTEXT: _, ...env } = process.env;
      execFileSync(process.execPath, [FLAG, fileURLToPath(import.meta.url)], { env });
    });
  }
} else {
  test('a number keeps the digits that a double does not have', () => {
    for (const number of ['12345678901234567890123', '-9007199254740993', '0.12345678901234567890123', '1e400', '-1.5e-400']) {
      assert.equal(JSON.stringify(parseExact(`{"a":[${number}]}`)), `{"a":[${number}]}`);
    }
  });

  test('a number that a double has is a number', () => {
    const numbers = ['0', '-0.0', '1.50', '0.1', '1e21', '1.2345678901234567e+19', '100000000000000000000000', '1E-7', '9007199254740992'];
    for (const number of numbers) assert.equal(parseExact(number), Number(number));
    assert.deepEqual(parseExact('{"a":"1e400","b":[null,true]}'), { a: '1e400', b: [null, true] });
  });

  test('lists, messages and replies are read with every digit', async () => {
    const { page } = await readPage(async () => new Response(`[{"id":1,"meta":${LONG}}]`), 't', undefined);
    assert.equal(JSON.stringify(page.records[0].meta), LONG);
    let socket;
    class Socket {
      constructor() {
        socket = this;
      }
      close() {}
    }
    const options = { url: 'ws://x', topic: 't', WebSocket: Socket, onState() {}, onMessage() {} };
    const subscription = new Subscription(options);
    subscription.start();
    socket.onmessage({ data: `{"type":"snapshot","sub":"t","cursor":"c","records":[{"id":1,"meta":${LONG}}]}` });
    assert.equal(JSON.stringify(subscription.records.byId.get(1).meta), LONG);
    subscription.stop();
    const bodies = [];
    const send = restClient({ fetch: async (_, { body }) => (bodies.push(body), new Response(`{"id":1,"meta":${LONG}}`)) });
    const { record } = await send({ method: 'PATCH', url: '/', key: 'k', body: { meta: parseExact(LONG) } });
    assert.deepEqual([JSON.stringify(record.meta), bodies], [LONG, [`{"meta":${LONG}}`]]);
  });

  test('cells and editors have every digit', () => {
    const value = parseExact(LONG);
    assert.equal(shortTextOf(value, FIELD), LONG);
    const typed = textOf(value, FIELD).replace('"m": 1', '"m": 2');
    assert.equal(JSON.stringify(parseText(typed, FIELD).value), LONG.replace('"m":1', '"m":2'));
    assert.equal(textOf(parseExact('9007199254740993'), { schema: { type: 'integer' } }), '9007199254740993');
    assert.equal(isSame(value, parseExact('{"m":1,"f":1.50,"n":12345678901234567890123}')), true);
    assert.equal(isSame(value, parseExact(LONG.replace('123,', '124,'))), false);
  });

  test('lines to copy have every digit', () => {
    const table = { name: 't', writable: true, fields: [{ name: 'meta' }] };
    const record = { id: 1, meta: parseExact(LONG) };
    assert.ok(curlSnippets(table, record, 'http://h').at(-1).text.includes(`-d '{"meta":${LONG}}'`));
    assert.ok(scriptSnippets(table, record, 'http://h').at(-1).text.includes(`body: '{"meta":${LONG}}'`));
  });
}

test('without JSON.rawJSON, numbers are rounded as by JSON.parse', () => {
  const { rawJSON } = JSON;
  delete JSON.rawJSON;
  assert.deepEqual(parseExact('[9007199254740993, 1e400, "a"]'), [9007199254740992, Infinity, 'a']);
  if (rawJSON !== undefined) JSON.rawJSON = rawJSON;
});
