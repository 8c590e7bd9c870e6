import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { FakeClock, settled } from './fake_clock.mjs';
import { OwnKeys, randomKey } from './idempotency_key.js';
import { reasonsBeside, summaryOf, whyOf } from './problem.js';
import { restClient } from './rest.js';
import { Retrier } from './retrier.js';
import { FieldSaver } from './saver.js';

function start() {
  const clock = new FakeClock();
  /** @type {{ url: string, method: string, headers: any, body: any, answer: Function, fail: Function }[]} */
  const requests = [];
  const fetch = (url, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const fail = () => reject(new TypeError('network error'));
      signal.addEventListener('abort', fail);
      const answer = (status, json = {}, more = {}) => {
        const text = typeof json === 'string' ? json : JSON.stringify(json);
        resolve(new Response(status === 204 ? null : text, { status, headers: more }));
        return settled();
      };
      requests.push({ url, method, headers, body: body && JSON.parse(body), answer, fail: () => (fail(), settled()) });
    });
  const states = [];
  let lastKey = 0;
  const retrier = new Retrier({ send: restClient({ fetch, clock }), clock });
  const saver = new FieldSaver({
    retrier,
    urlOf: (id) => `/users/${id}/`,
    makeKey: () => `key-${++lastKey}`,
    onState: (id, field, state) => states.push({ id, field, ...state }),
  });
  const names = () => states.map(({ name }) => name);
  return { clock, requests, states, names, retrier, saver };
}

test('an edit is a merge patch with an idempotency key', async () => {
  const { requests, states, saver } = start();
  saver.save(1, 'first_name', 'Ada');
  const [{ method, url, body, headers, answer }] = requests;
  assert.deepEqual([method, url, body], ['PATCH', '/users/1/', { first_name: 'Ada' }]);
  assert.equal(headers['Content-Type'], 'application/merge-patch+json');
  assert.equal(headers['Idempotency-Key'], 'key-1');
  assert.equal(saver.hasUnsaved, true);
  await answer(200, { id: 1, first_name: 'Ada' });
  assert.deepEqual(states, [
    { id: 1, field: 'first_name', name: 'saving' },
    { id: 1, field: 'first_name', name: 'saved', value: 'Ada', key: 'key-1', record: { id: 1, first_name: 'Ada' } },
  ]);
  assert.equal(saver.hasUnsaved, false);
});

test('while a request is in flight, only the latest value waits', async () => {
  const { requests, states, saver } = start();
  for (const value of ['A', 'Ad', 'Ada']) saver.save(1, 'first_name', value);
  assert.equal(requests.length, 1);
  await requests[0].answer(200);
  assert.deepEqual(requests.map(({ body }) => body.first_name), ['A', 'Ada']);
  assert.notEqual(requests[0].headers['Idempotency-Key'], requests[1].headers['Idempotency-Key']);
  await requests[1].answer(200);
  assert.deepEqual(states.filter(({ name }) => name === 'saved').map(({ value }) => value), ['Ada']);
});

test('edits of other fields and records do not wait', () => {
  const { requests, saver } = start();
  saver.save(1, 'first_name', 'Ada');
  saver.save(1, 'last_name', 'Lovelace');
  saver.save(2, 'first_name', 'Grace');
  assert.equal(requests.length, 3);
});

test('network errors and 5xx are retried with the same key and a growing delay', async () => {
  const { clock, requests, states, names, saver } = start();
  clock.chance = 1;
  saver.save(1, 'first_name', 'Ada');
  await requests[0].fail();
  assert.equal(states.at(-1).retryAt - clock.now(), 500);
  await clock.advance(500);
  await requests[1].answer(502, '<html>Bad gateway</html>');
  assert.equal(states.at(-1).retryAt - clock.now(), 1000);
  await clock.advance(1000);
  await requests[2].answer(200);
  assert.deepEqual(new Set(requests.map(({ headers }) => headers['Idempotency-Key'])), new Set(['key-1']));
  assert.deepEqual(names(), ['saving', 'retrying', 'retrying', 'saved']);
});

test('a value without an answer is retried before a newer one is sent', async () => {
  const { clock, requests, saver } = start();
  saver.save(1, 'first_name', 'A');
  await requests[0].fail();
  saver.save(1, 'first_name', 'Ada');
  await clock.advance(200);
  assert.deepEqual([requests[1].body.first_name, requests[1].headers['Idempotency-Key']], ['A', 'key-1']);
  await requests[1].answer(200);
  assert.deepEqual([requests[2].body.first_name, requests[2].headers['Idempotency-Key']], ['Ada', 'key-2']);
});

async function checkRetryAfter(status, header, expected) {
  const { clock, requests, states, retrier, saver } = start();
  saver.save(1, 'first_name', 'Ada');
  await requests[0].answer(status, {}, { 'Retry-After': header(clock.now()) });
  assert.equal(states.at(-1).retryAt - clock.now(), expected);
  retrier.tryNow(); // It does not cut short a delay that the server asked for.
  await clock.advance(expected - 1);
  assert.equal(requests.length, 1);
  await clock.advance(1);
  assert.equal(requests.length, 2);
}

test('Retry-After is respected, in seconds and as a date', async () => {
  await checkRetryAfter(429, () => '3', 3200);
  await checkRetryAfter(503, (now) => new Date(now + 5000).toUTCString(), 5200);
});

test('a write is retried at once when the server is back', async () => {
  const { requests, names, retrier, saver, clock } = start();
  saver.save(1, 'first_name', 'Ada');
  await requests[0].fail();
  retrier.tryNow();
  await settled();
  await requests[1].answer(200);
  assert.deepEqual(names(), ['saving', 'retrying', 'saved']);
  assert.equal(clock.pending, 0);
});

test('a request without a reply is aborted and retried', async () => {
  const { clock, requests, states, saver } = start();
  saver.save(1, 'first_name', 'Ada');
  await clock.advance(20_000);
  assert.equal(states.at(-1).why, 'the server does not answer');
  await clock.advance(200);
  assert.equal(requests.length, 2);
});

test('a 4xx is final and reports the problem', async () => {
  const { clock, requests, states, saver } = start();
  saver.save(1, 'first_name', 'x');
  await requests[0].answer(422, { title: 'invalid', errors: { first_name: ['too long'] } });
  const { name, value, problem } = states.at(-1);
  assert.deepEqual([name, value, problem.status, problem.errors], ['refused', 'x', 422, { first_name: ['too long'] }]);
  assert.equal(saver.hasUnsaved, false);
  assert.equal(clock.pending, 0);
});

test('a refusal is not reported when a newer value waits, which is sent', async () => {
  const { requests, names, saver } = start();
  saver.save(1, 'first_name', 'too long');
  saver.save(1, 'first_name', 'Ada');
  await requests[0].answer(422);
  await requests[1].answer(200);
  assert.deepEqual(names(), ['saving', 'saving', 'saved']);
});

test('a 2xx counts even if its body is truncated', async () => {
  const { requests, names, saver } = start();
  saver.save(1, 'first_name', 'Ada');
  await requests[0].answer(200, '{"id":1,"fir');
  assert.deepEqual(names(), ['saving', 'saved']);
});

test('keys are random UUIDs on insecure origins, too', () => {
  const insecure = { getRandomValues: (bytes) => webcrypto.getRandomValues(bytes) };
  const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  assert.match(randomKey(webcrypto), uuid);
  assert.match(randomKey(insecure), uuid);
  assert.notEqual(randomKey(insecure), randomKey(insecure));
});

test('a window keeps its latest keys, and knows which changes have come', () => {
  let last = 0;
  const keys = new OwnKeys(() => String(++last));
  const first = keys.make();
  keys.markEchoed(first);
  keys.markEchoed('not mine');
  assert.deepEqual([keys.has(first), keys.isEchoed(first), keys.has('not mine')], [true, true, false]);
  for (let more = 0; more < 500; more++) keys.make();
  assert.equal(keys.has(first), false);
});

test('a problem is shown with the messages of its errors, not with where to find them', () => {
  const detail = 'see "errors" for the reason for each field';
  const about = { status: 400, title: 'Bad Request', detail, errors: { after: ['must be the id of a record'] } };
  assert.equal(summaryOf(about), '"after" must be the id of a record.');
  assert.equal(whyOf(about), '"after" must be the id of a record');
  const several = { ...about, errors: { '': ['end is before begin'], name: ['is too long', 'is odd'] } };
  assert.equal(summaryOf(several), 'End is before begin. "name" is too long. "name" is odd.');
  assert.equal(reasonsBeside(several, ['name']), 'End is before begin.');
  assert.equal(reasonsBeside(several, ['name', '']), undefined);
});

test('without errors, the detail of a problem is shown', () => {
  assert.equal(summaryOf({ status: 404, title: 'Not Found', detail: 'the record does not exist', errors: {} }), 'The record does not exist.');
  const detail = 'the resource does not support this method; see the Allow header';
  assert.equal(summaryOf({ status: 405, detail }), 'The resource does not support this method.');
  assert.equal(summaryOf({ status: 418 }), 'The server answered 418.');
});
