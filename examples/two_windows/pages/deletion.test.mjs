import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deletion } from './deletion.js';
import { FakeClock } from './client/fake_clock.mjs';

function start() {
  const clock = new FakeClock();
  const events = [];
  const deletion = new Deletion({
    clock,
    onTick: (seconds) => events.push(seconds),
    onDue: () => events.push('due'),
  });
  return { clock, events, deletion };
}

test('a deletion counts down five seconds and is then due', async () => {
  const { clock, events } = start();
  await clock.advance(4999);
  assert.deepEqual(events, [5, 4, 3, 2, 1]);
  await clock.advance(1);
  assert.deepEqual(events.at(-1), 'due');
  assert.equal(clock.pending, 0);
});

test('a deletion that is undone is never due', async () => {
  const { clock, events, deletion } = start();
  await clock.advance(3000);
  deletion.cancel();
  await clock.advance(60_000);
  assert.deepEqual(events, [5, 4, 3, 2]);
});
