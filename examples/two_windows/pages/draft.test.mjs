import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Draft } from './draft.js';

function typing(value) {
  const draft = new Draft('Ada');
  draft.focus(true);
  draft.type(value);
  return draft;
}

test('a field without input follows the stream, with and without focus', () => {
  const draft = new Draft('Ada');
  draft.focus(true);
  draft.receive('Grace', []);
  assert.equal(draft.shown, 'Grace');
});

test('a field is not overwritten while the user types', () => {
  const draft = typing('Adam');
  draft.receive('Eve', []);
  assert.equal(draft.shown, 'Adam');
});

test('a newer value from elsewhere is shown when the focus leaves', () => {
  const draft = typing('Adam');
  draft.receive('Adam', ['mine']);
  draft.saved('Adam', undefined);
  assert.equal(draft.heldBack, undefined);
  draft.receive('Eve', ['theirs']);
  assert.deepEqual([draft.shown, draft.heldBack], ['Adam', 'Eve']);
  draft.focus(false);
  assert.deepEqual([draft.shown, draft.heldBack], ['Eve', undefined]);
});

test('an unsaved value stays when the focus leaves', () => {
  const draft = typing('Adam');
  draft.focus(false);
  draft.receive('Eve', []);
  assert.equal(draft.shown, 'Adam');
  draft.receive('Adam', ['mine']);
  draft.saved('Adam', undefined);
  draft.receive('Cain', []);
  assert.equal(draft.shown, 'Cain');
});

test('a saved value stays until its change comes', () => {
  const draft = typing('Adam');
  draft.focus(false);
  draft.saved('Adam', 'mine');
  assert.equal(draft.shown, 'Adam');
  draft.receive('Ada', ['about another field']);
  assert.equal(draft.shown, 'Adam');
  draft.receive('Adam', ['mine']);
  draft.receive('Eve', []);
  assert.equal(draft.shown, 'Eve');
});

test('a change that was part of a snapshot is not awaited', () => {
  const draft = typing('Adam');
  draft.focus(false);
  draft.saved('Adam', 'mine');
  draft.caughtUp();
  assert.equal(draft.shown, 'Ada');
});

test('a write that changed nothing awaits no change', () => {
  const draft = typing('Ada');
  draft.saved('Ada', 'mine');
  draft.focus(false);
  draft.receive('Eve', []);
  assert.equal(draft.shown, 'Eve');
});

test('a refused value stays until the user changes or discards it', () => {
  const draft = typing('x'.repeat(101));
  draft.refused('x'.repeat(101));
  draft.focus(false);
  draft.receive('Eve', []);
  assert.equal(draft.shown.length, 101);
  assert.equal(draft.discard(), true);
  assert.equal(draft.shown, 'Eve');
});

test('an answer to an older value is ignored', () => {
  const draft = typing('Adam');
  draft.type('Adams');
  draft.saved('Adam', 'older');
  draft.refused('Adam');
  draft.focus(false);
  draft.receive('Eve', []);
  assert.equal(draft.shown, 'Adams');
});
