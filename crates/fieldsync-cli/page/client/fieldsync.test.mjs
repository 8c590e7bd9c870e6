import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from './fake_clock.mjs';
import { Subscription } from './fieldsync.js';

class FakeSocket {
  static all = [];
  static get last() {
    return FakeSocket.all.at(-1);
  }

  readyState = 0;
  sent = [];
  closed = false;

  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    FakeSocket.all.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.closed = true;
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }
  say(...messages) {
    for (const message of messages) this.onmessage({ data: JSON.stringify({ sub: 'users', collection: 'users', ...message }) });
  }
  breaks(code = 1006, reason = '') {
    this.readyState = 3;
    this.onclose({ code, reason });
  }
}

const ADA = { id: 1, first_name: 'Ada', last_name: 'Lovelace' };
const GRACE = { id: 2, first_name: 'Grace', last_name: 'Hopper' };
const SNAPSHOT = { type: 'snapshot', records: [ADA, GRACE], cursor: 'c1' };
const LIVE = { type: 'live', cursor: 'c1' };

function start(options = {}) {
  FakeSocket.all = [];
  const clock = new FakeClock();
  const states = [];
  const differences = [];
  const subscription = new Subscription({
    url: 'ws://here/',
    topic: 'users',
    WebSocket: FakeSocket,
    clock,
    onState: (state) => states.push(state),
    onMessage: (some) => differences.push(...some),
    ...options,
  });
  subscription.start();
  const records = () => [...subscription.records.byId.values()];
  return { clock, states, differences, subscription, records };
}

/** A subscription that is live at cursor c1 with Ada and Grace. */
function live(options) {
  const lab = start(options);
  FakeSocket.last.open();
  FakeSocket.last.say(SNAPSHOT, LIVE);
  lab.differences.length = 0;
  return lab;
}

const change = (action, id, fields, cursor, more) => ({ type: 'change', action, id, fields, cursor, ...more });

test('the first subscription has no cursor, and is connected when it is live', () => {
  const { states, records } = start();
  FakeSocket.last.open();
  assert.equal(FakeSocket.last.protocol, 'fieldsync.v1');
  assert.deepEqual(FakeSocket.last.sent, [{ type: 'subscribe', topic: 'users' }]);
  FakeSocket.last.say(SNAPSHOT);
  assert.deepEqual(states.map(({ name }) => name), ['connecting']);
  FakeSocket.last.say(LIVE);
  assert.deepEqual(states.map(({ name }) => name), ['connecting', 'connected']);
  assert.deepEqual(records(), [ADA, GRACE]);
});

test('create replaces, update merges, delete removes', () => {
  const { records, differences } = live();
  FakeSocket.last.say(
    change('update', 1, { first_name: 'Augusta' }, 'c2', { key: 'k' }),
    change('create', 2, { first_name: 'New' }, 'c3'),
    change('delete', 1, undefined, 'c4'),
  );
  assert.deepEqual(records(), [{ id: 2, first_name: 'New' }]);
  assert.deepEqual(differences[0], { id: 1, before: ADA, after: { ...ADA, first_name: 'Augusta' }, keys: ['k'] });
  assert.deepEqual(differences[2].after, undefined);
});

test('an update of an unknown record creates it', () => {
  const { records } = live();
  FakeSocket.last.say(change('update', 9, { first_name: 'Eve' }, 'c2'));
  assert.deepEqual(records()[2], { id: 9, first_name: 'Eve' });
});

test('a subscription resumes from the last cursor and keeps its records', async () => {
  const { clock, records } = live();
  FakeSocket.last.say(change('delete', 2, undefined, 'c2'), { type: 'live', cursor: 'c5' });
  FakeSocket.last.breaks();
  assert.deepEqual(records(), [ADA]);
  await clock.advance(200);
  FakeSocket.last.open();
  assert.deepEqual(FakeSocket.last.sent, [{ type: 'subscribe', topic: 'users', since: 'c5' }]);
});

test('a change that was applied before a lost connection is not applied again', async () => {
  const { clock, differences } = live();
  const twice = change('update', 1, { first_name: 'Augusta' }, 'c2');
  FakeSocket.last.say(twice);
  FakeSocket.last.breaks();
  await clock.advance(200);
  FakeSocket.last.open();
  FakeSocket.last.say(twice, LIVE);
  assert.equal(differences.length, 1);
});

test('a folded page is applied with its cursor', () => {
  const { records, subscription, differences } = live();
  const changes = [
    { id: 1, action: 'update', fields: { last_name: 'King' }, keys: ['a', 'b'] },
    { id: 2, action: 'delete', keys: [] },
    { id: 3, action: 'create', fields: { id: 3, first_name: 'Jean' } },
  ];
  FakeSocket.last.say({ type: 'changes', folded: true, changes, cursor: 'c7' });
  assert.deepEqual(records(), [{ ...ADA, last_name: 'King' }, { id: 3, first_name: 'Jean' }]);
  assert.deepEqual(differences[0].keys, ['a', 'b']);
  assert.equal(subscription.records.cursor, 'c7');
});

test('a page with a malformed entry changes nothing and is requested again', async () => {
  const { clock, records } = live();
  const changes = [{ id: 1, action: 'delete' }, { id: 2, action: 'explode' }];
  FakeSocket.last.say({ type: 'changes', folded: true, changes, cursor: 'c7' });
  assert.deepEqual(records(), [ADA, GRACE]);
  assert.equal(FakeSocket.last.closed, true);
  await clock.advance(200);
  FakeSocket.last.open();
  assert.equal(FakeSocket.last.sent[0].since, 'c1');
});

test('a snapshot in pieces is shown with its last piece, with the changes in between', () => {
  const { records, subscription, differences } = start();
  FakeSocket.last.open();
  FakeSocket.last.say(
    { type: 'snapshot', records: [ADA] },
    change('update', 1, { first_name: 'Augusta' }),
    { type: 'changes', folded: true, changes: [{ id: 1, action: 'update', fields: { last_name: 'King' } }] },
  );
  assert.deepEqual(records(), []);
  assert.equal(subscription.records.loaded, false);
  FakeSocket.last.say({ type: 'snapshot', records: [GRACE], cursor: 'c9' });
  assert.deepEqual(records(), [{ id: 1, first_name: 'Augusta', last_name: 'King' }, GRACE]);
  assert.equal(differences.length, 2);
  assert.equal(subscription.records.cursor, 'c9');
});

test('an incomplete snapshot is discarded with its connection', async () => {
  const { clock, records } = start();
  FakeSocket.last.open();
  FakeSocket.last.say({ type: 'snapshot', records: [ADA] });
  FakeSocket.last.breaks();
  await clock.advance(200);
  FakeSocket.last.open();
  assert.equal('since' in FakeSocket.last.sent[0], false);
  FakeSocket.last.say({ type: 'snapshot', records: [GRACE], cursor: 'c2' });
  assert.deepEqual(records(), [GRACE]);
});

test('a snapshot that was cut goes on after its last whole piece', async () => {
  const { clock, records, subscription } = start();
  FakeSocket.last.open();
  FakeSocket.last.say({ type: 'snapshot', records: [ADA], resume: 'r1' });
  FakeSocket.last.breaks();
  await clock.advance(200);
  FakeSocket.last.open();
  assert.deepEqual(FakeSocket.last.sent, [{ type: 'subscribe', topic: 'users', resume: 'r1' }]);
  FakeSocket.last.say({ type: 'changes', folded: true, changes: [{ id: 1, action: 'delete' }], resume: 'r2' });
  FakeSocket.last.breaks();
  await clock.advance(2000);
  FakeSocket.last.open();
  assert.equal(FakeSocket.last.sent[0].resume, 'r2');
  FakeSocket.last.say({ type: 'snapshot', records: [GRACE], cursor: 'c2' });
  assert.deepEqual(records(), [GRACE]);
  assert.deepEqual([subscription.records.cursor, subscription.records.resume], ['c2', undefined]);
});

test('a snapshot that can not go on starts anew', async () => {
  const { clock, records } = start();
  FakeSocket.last.open();
  FakeSocket.last.say({ type: 'snapshot', records: [ADA], resume: 'r1' });
  FakeSocket.last.breaks();
  await clock.advance(200);
  FakeSocket.last.open();
  FakeSocket.last.say({ type: 'reset', reason: 'trimmed' }, { type: 'snapshot', records: [GRACE], cursor: 'c2' });
  assert.deepEqual(records(), [GRACE]);
});

test('a resume that the server does not know is forgotten with what it belongs to', async () => {
  const { clock, records } = start();
  FakeSocket.last.open();
  FakeSocket.last.say({ type: 'snapshot', records: [ADA], resume: 'r1' });
  FakeSocket.last.breaks();
  await clock.advance(200);
  FakeSocket.last.open();
  FakeSocket.last.say({ type: 'error', sub: 'users', problem: { status: 400 } });
  await clock.advance(2000);
  FakeSocket.last.open();
  assert.deepEqual(FakeSocket.last.sent, [{ type: 'subscribe', topic: 'users' }]);
  FakeSocket.last.say({ type: 'snapshot', records: [GRACE], cursor: 'c2' });
  assert.deepEqual(records(), [GRACE]);
});

test('a reset keeps the old records until the snapshot is complete, and reports deleted ones', () => {
  const { records, differences } = live();
  FakeSocket.last.say({ type: 'reset', reason: 'trimmed' }, { type: 'snapshot', records: [] });
  assert.deepEqual(records(), [ADA, GRACE]);
  FakeSocket.last.say({ type: 'snapshot', records: [ADA], cursor: 'x1' });
  assert.deepEqual(records(), [ADA]);
  assert.deepEqual(differences.map(({ id, after }) => [id, after]), [[2, undefined], [1, ADA]]);
});

test('a connection lost after a reset does not resume from the old cursor', async () => {
  const { clock } = live();
  FakeSocket.last.say({ type: 'reset', reason: 'epoch' });
  FakeSocket.last.breaks();
  await clock.advance(200);
  FakeSocket.last.open();
  assert.equal('since' in FakeSocket.last.sent[0], false);
});

test('messages of an old socket are ignored', async () => {
  const { clock, records } = live();
  const old = FakeSocket.last;
  await clock.advance(45_000 + 200);
  assert.notEqual(FakeSocket.last, old);
  assert.equal(old.closed, true);
  old.say(change('delete', 1, undefined, 'c2'));
  old.breaks();
  assert.deepEqual(records(), [ADA, GRACE]);
  assert.equal(FakeSocket.all.length, 2);
});

test('45 s without a message, also a heartbeat, mean a lost connection', async () => {
  const { clock, states } = live();
  await clock.advance(44_000);
  FakeSocket.last.say({ type: 'live', cursor: 'c3' });
  await clock.advance(44_000);
  assert.equal(states.at(-1).name, 'connected');
  await clock.advance(1_000);
  assert.deepEqual(states.at(-1), {
    name: 'disconnected', why: 'the server stopped responding', retryAt: clock.now() + 200,
  });
});

test('a connection that does not open is closed', async () => {
  const { clock, states } = start();
  await clock.advance(45_000);
  assert.equal(states.at(-1).name, 'disconnected');
});

async function delays(clock, states, count) {
  const seen = [];
  for (let attempt = 0; attempt < count; attempt++) {
    FakeSocket.last.breaks();
    const delay = states.at(-1).retryAt - clock.now();
    seen.push(Math.round(delay));
    await clock.advance(delay);
  }
  return seen;
}

test('the back-off doubles up to 10 s, with random delays of at least 200 ms', async () => {
  const { clock, states } = start();
  clock.chance = 1;
  assert.deepEqual(await delays(clock, states, 7), [500, 1000, 2000, 4000, 8000, 10000, 10000]);
  clock.chance = 0;
  assert.deepEqual(await delays(clock, states, 1), [200]);
});

test('only a live message resets the back-off', async () => {
  const { clock, states } = start();
  clock.chance = 1;
  await delays(clock, states, 3);
  FakeSocket.last.open();
  FakeSocket.last.say(SNAPSHOT);
  assert.deepEqual(await delays(clock, states, 1), [4000]);
  FakeSocket.last.open();
  FakeSocket.last.say(LIVE);
  assert.deepEqual(await delays(clock, states, 1), [500]);
});

async function checkClose(code, reason, expected) {
  const { clock, states, subscription } = live();
  FakeSocket.last.breaks(code, reason);
  assert.equal(states.at(-1).retryAt - clock.now(), expected, `${code} ${reason}`);
  await clock.advance(expected - 1);
  assert.equal(FakeSocket.all.length, 1);
  await clock.advance(1);
  assert.equal(FakeSocket.all.length, 2);
  subscription.stop();
}

test('a close code decides the delay', async () => {
  await checkClose(1012, 'retry-after-ms=1234', 1234);
  await checkClose(1013, 'retry-after-ms=0', 0);
  await checkClose(1013, 'busy', 200);
  await checkClose(1008, '', 30_000);
  for (const code of [1000, 1001, 1002, 1003, 1006, 1007, 1009, 1011, 4999]) await checkClose(code, '', 200);
});

test('a new network ends the back-off, but not a delay that the server asked for', () => {
  const { subscription } = live();
  FakeSocket.last.breaks();
  subscription.networkIsBack();
  assert.equal(FakeSocket.all.length, 2);
  subscription.networkIsBack(); // Still connecting, perhaps since a time without a network.
  assert.equal(FakeSocket.all.length, 3);
  FakeSocket.last.open();
  subscription.networkIsBack();
  assert.equal(FakeSocket.all.length, 3);
  FakeSocket.last.breaks(1008);
  subscription.networkIsBack();
  assert.equal(FakeSocket.all.length, 3);
  subscription.tryNow();
  assert.equal(FakeSocket.all.length, 4);
});

function refuse(problem) {
  const { clock, states, subscription } = live();
  FakeSocket.last.say({ type: 'error', problem });
  const { name, why, retryAt } = states.at(-1);
  return { name, why, delay: retryAt - clock.now(), cursor: subscription.records.cursor };
}

test('a refused subscription is reported and retried late', () => {
  assert.deepEqual(refuse({ status: 403, detail: 'not for you' }), {
    name: 'disconnected', why: 'not for you', delay: 30_000, cursor: 'c1',
  });
});

test('a subscription refused for a temporary reason is retried with back-off', () => {
  assert.equal(refuse({ status: 503, title: 'busy' }).delay, 200);
});

test('a cursor that the server refuses is discarded', () => {
  const { delay, cursor } = refuse({ status: 400, title: 'malformed cursor' });
  assert.deepEqual([delay, cursor], [200, undefined]);
});

test('other topics and unknown messages are ignored', () => {
  const { records, states } = live();
  FakeSocket.last.say({ ...SNAPSHOT, sub: 'orders', records: [] }, { type: 'news' });
  assert.deepEqual(records(), [ADA, GRACE]);
  assert.equal(states.at(-1).name, 'connected');
});

test('a stopped subscription has neither timers nor a socket', async () => {
  const { clock, subscription, states } = live();
  subscription.stop();
  assert.equal(clock.pending, 0);
  assert.equal(FakeSocket.last.closed, true);
  assert.equal(states.at(-1).name, 'stopped');
});

test('a session that has ended is not tried again until the user has signed in, and then resumed', async () => {
  const { clock, states, subscription, records } = live();
  FakeSocket.last.breaks(4401, 'revoked');
  await undefined;
  assert.deepEqual(states.at(-1), { name: 'signed-out', why: 'your session was ended' });
  await clock.advance(600_000);
  subscription.networkIsBack();
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(records().length, 2);
  subscription.tryNow();
  FakeSocket.last.open();
  assert.deepEqual(FakeSocket.last.sent, [{ type: 'subscribe', topic: 'users', since: 'c1' }]);
});

test('a session that has expired is renewed by the app, with a growing delay', async () => {
  let fresh = true;
  let asked = 0;
  const renew = async () => {
    asked += 1;
    return fresh;
  };
  const { clock, states } = live({ renew });
  FakeSocket.last.breaks(4401, 'expired');
  await new Promise(setImmediate);
  assert.equal(states.at(-1).name, 'disconnected');
  assert.equal(states.at(-1).why, 'your session has expired');
  await clock.advance(500);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.open();
  assert.equal(FakeSocket.last.sent[0].since, 'c1');
  // The server does not accept that one, either.
  FakeSocket.last.breaks(4401, 'expired');
  await new Promise(setImmediate);
  const { retryAt } = states.at(-1);
  assert.ok(retryAt - clock.now() >= 200 && retryAt - clock.now() <= 1000);
  fresh = false;
  await clock.advance(1000);
  FakeSocket.last.open();
  FakeSocket.last.say({ type: 'error', problem: { status: 401, detail: 'authentication is required' } });
  await new Promise(setImmediate);
  assert.deepEqual(states.at(-1), { name: 'signed-out', why: 'authentication is required' });
  assert.equal(asked, 3);
});

test('a renewal that comes after the user has signed in is ignored', async () => {
  let answer;
  const { clock, states, subscription } = live({ renew: () => new Promise((_, reject) => { answer = reject; }) });
  FakeSocket.last.breaks(4401, 'expired');
  subscription.tryNow();
  FakeSocket.last.open();
  FakeSocket.last.say(LIVE);
  answer(new Error('too late'));
  await new Promise(setImmediate);
  await clock.advance(10_000);
  assert.equal(states.at(-1).name, 'connected');
  assert.equal(FakeSocket.all.length, 2);
});
