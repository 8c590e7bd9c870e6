import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSame, parseText, patchOf, proseOf, shortTextOf, textOf } from './cell_value.js';
import { choicesOf, hintOf, kindOf, optionsOf } from './field_kind.js';

const field = (schema, nullable = false) => ({ name: 'f', column: 'f', type: 't', schema, nullable });
const BIG = field({ type: ['integer', 'string'], minimum: -9223372036854775808, maximum: 9223372036854775807 });
const SMALL = field({ type: 'integer', minimum: 0, maximum: 65535 });
const NUMBER = field({ type: 'number' });
const TEXT = field({ type: 'string' });
const JSON_FIELD = field({});
const nullable = (of) => field({ ...of.schema, type: [of.schema.type ?? [], 'null'].flat() }, true);

test('the kind of a field is read from its JSON Schema', () => {
  const kinds = [
    [{ type: 'boolean' }, 'boolean'],
    [{ type: ['boolean', 'null'] }, 'boolean'],
    [{ type: 'string', enum: ['a', 'b'] }, 'choice'],
    [{ type: ['integer', 'string', 'null'] }, 'integer'],
    [{ type: ['number', 'null'] }, 'number'],
    [{ type: 'string', format: 'date' }, 'date'],
    [{ type: ['string', 'null'], format: 'date-time' }, 'datetime'],
    [{ type: 'string', format: 'uuid' }, 'uuid'],
    [{ type: 'string', contentEncoding: 'base64' }, 'bytes'],
    [{}, 'json'],
    [{ type: ['null'] }, 'json'],
    [{ type: 'array', items: { type: 'string' } }, 'json'],
    [{ type: 'object' }, 'json'],
    [{ type: 'string', maxLength: 40 }, 'line'],
    [{ type: 'string', maxLength: 4000 }, 'text'],
    [{ type: 'string' }, 'text'],
  ];
  for (const [schema, kind] of kinds) assert.equal(kindOf(field(schema)), kind, JSON.stringify(schema));
});

test('null is not among the choices', () => {
  assert.deepEqual(choicesOf(field({ type: ['string', 'null'], enum: ['a', 'b', null] }, true)), ['a', 'b']);
});

test('NULL differs from a choice with that label', () => {
  const [none, choice] = optionsOf(field({ type: ['string', 'null'], enum: ['NULL', null] }, true));
  assert.deepEqual([none.value, choice.value], [null, 'NULL']);
  assert.notEqual(none.label, choice.label);
  assert.deepEqual(optionsOf(field({ type: 'string', enum: ['a'] })), [{ value: 'a', label: 'a' }]);
});

test('integers keep every digit', () => {
  assert.deepEqual(parseText(' 42 ', BIG), { value: 42 });
  assert.deepEqual(parseText('-0', BIG), { value: 0 });
  assert.deepEqual(parseText('9007199254740993', BIG), { value: '9007199254740993' });
  assert.deepEqual(parseText('+9223372036854775807', BIG), { value: '9223372036854775807' });
  assert.deepEqual(parseText('99999999999999999999', SMALL), { message: 'The number is too large.' });
  for (const text of ['', '1.5', '0x10', '1e3', 'abc']) assert.deepEqual(parseText(text, BIG), { message: 'Must be a whole number.' });
});

test('numbers are decimal', () => {
  assert.deepEqual(parseText('12.50', NUMBER), { value: 12.5 });
  assert.deepEqual(parseText('-.5', NUMBER), { value: -0.5 });
  assert.deepEqual(parseText('1e3', NUMBER), { value: 1000 });
  assert.deepEqual(parseText('0.12345678901234567890', field({ type: ['number', 'string'] })), { value: '0.12345678901234567890' });
  assert.deepEqual(parseText('1e999', NUMBER), { message: 'The number is too large.' });
  for (const text of ['', '1,5', 'NaN', 'Infinity', '.']) assert.match(parseText(text, NUMBER).message, /Must be a number/);
});

test('an empty editor means NULL, except for text', () => {
  assert.deepEqual(parseText('', nullable(BIG)), { value: null });
  assert.deepEqual(parseText(' ', nullable(NUMBER)), { value: null });
  assert.deepEqual(parseText('', nullable(field({ type: 'string', format: 'date' }))), { value: null });
  assert.deepEqual(parseText('', nullable(TEXT)), { value: '' });
});

test('text is kept as it is typed', () => {
  assert.deepEqual(parseText('  a\nb ', TEXT), { value: '  a\nb ' });
  assert.deepEqual(parseText(' 2026-01-13 ', field({ type: 'string', format: 'date' })), { value: '2026-01-13' });
});

test('JSON is edited as JSON', () => {
  const value = { a: [1, null] };
  assert.deepEqual(parseText(textOf(value, JSON_FIELD), JSON_FIELD), { value });
  assert.match(parseText('{a:1}', JSON_FIELD).message, /Must be JSON/);
  assert.equal(shortTextOf(value, JSON_FIELD), '{"a":[1,null]}');
});

test('a cell shows the beginning of a long value, without half a character', () => {
  assert.equal(shortTextOf('x'.repeat(10_000), TEXT).length, 241);
  assert.doesNotMatch(shortTextOf('😀'.repeat(1000), TEXT), /[\ud800-\udbff](?![\udc00-\udfff])/);
});

test('in a sentence, NULL differs from the text NULL', () => {
  assert.deepEqual([null, 'NULL', '', 'x'].map((value) => proseOf(value, nullable(TEXT))), ['NULL', '"NULL"', '""', 'x']);
});

test('times are shown without what they do not need', () => {
  const time = field({ type: 'string', format: 'date-time' });
  assert.equal(shortTextOf('2026-01-13T10:00:00.000000Z', time), '2026-01-13 10:00:00');
  assert.equal(shortTextOf('2026-01-13T10:00:00.120000Z', time), '2026-01-13 10:00:00.12');
  assert.equal(shortTextOf('infinity', time), 'infinity');
});

test('bytes are shown by their size', () => {
  assert.equal(shortTextOf(Buffer.from('abcd').toString('base64'), field({ type: 'string', contentEncoding: 'base64' })), '4 B');
});

test('values are compared as JSON, whatever the order of members', () => {
  assert.equal(isSame({ a: 1, b: [{ c: 1, d: 2 }] }, { b: [{ d: 2, c: 1 }], a: 1 }), true);
  assert.equal(isSame([1, 2], [2, 1]), false);
  assert.equal(isSame(null, undefined), false);
  assert.equal(isSame(1, '1'), false);
});

test('the hint names the limit or the format', () => {
  assert.equal(hintOf(field({ type: 'string', maxLength: 40 })), 'At most 40 characters');
  assert.equal(hintOf(field({ type: 'string', format: 'date' })), 'YYYY-MM-DD');
  assert.equal(hintOf(TEXT), '');
});

test('a patch removes the members that are missing, and keeps the others', () => {
  const before = { a: 1, b: { c: [1], d: 2 }, e: 3 };
  assert.deepEqual(patchOf({ a: 1, b: { c: [1, 2] }, f: { g: 1 } }, before), { b: { c: [1, 2], d: null }, e: null, f: { g: 1 } });
  assert.deepEqual(patchOf(before, before), {});
  assert.deepEqual(patchOf([1], before), [1]);
  assert.deepEqual(patchOf({ a: 1 }, null), { a: 1 });
  assert.deepEqual(patchOf({ a: { b: 1 } }, { a: 5 }), { a: { b: 1 } });
});
