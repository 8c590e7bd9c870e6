// Lines to copy: curl for a shell, and JavaScript.

import { hasAddress, PAGE_SIZE, recordPath } from './list_page.js';

/**
 * @typedef {import('./catalog.js').Table} Table
 * @typedef {import('./client/records.js').StoredRecord} StoredRecord
 * @typedef {{ title: string, text: string }} Snippet
 */

/**
 * Text as one word of a POSIX shell.
 *
 * @param {string} text
 */
export function shellWord(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * @param {Table} table
 * @param {StoredRecord | undefined} record  the one that is selected
 * @param {string} origin  of the server
 * @returns {Snippet[]}
 */
export function curlSnippets(table, record, origin) {
  const list = `${origin}/api/${encodeURIComponent(table.name)}/`;
  const snippets = [
    { title: 'Read a page of records', text: `curl ${shellWord(`${list}?limit=${PAGE_SIZE}`)}` },
    { title: 'Follow the changes', text: `curl -N -H 'Accept: text/event-stream' ${shellWord(list)}` },
  ];
  if (record === undefined || !hasAddress(record.id)) return snippets;
  const url = shellWord(origin + recordPath(table.name, record.id));
  snippets.push({ title: `Read record ${record.id}`, text: `curl ${url}` });
  const patch = examplePatch(table, record);
  if (patch !== undefined) {
    const body = shellWord(JSON.stringify(patch));
    const text = `curl -X PATCH -H 'Content-Type: application/merge-patch+json' \\\n  -d ${body} \\\n  ${url}`;
    snippets.push({ title: `Edit record ${record.id}`, text });
  }
  return snippets;
}

/**
 * @param {Table} table
 * @param {StoredRecord | undefined} record
 * @param {string} origin
 * @returns {Snippet[]}
 */
export function scriptSnippets(table, record, origin) {
  const list = `${origin}/api/${encodeURIComponent(table.name)}/?limit=${PAGE_SIZE}`;
  const live = `${origin.replace(/^http/, 'ws')}/live`;
  const subscription = `{ type: 'subscribe', topic: ${literal(table.name)}, since: cursor }`;
  const snippets = [
    {
      title: 'Read a page, then follow the changes',
      text: [
        `const response = await fetch(${literal(list)});`,
        'const records = await response.json();',
        `const cursor = response.headers.get('Fieldsync-Cursor');`,
        '',
        `const socket = new WebSocket(${literal(live)}, 'fieldsync.v1');`,
        `socket.onopen = () => socket.send(JSON.stringify(${subscription}));`,
        'socket.onmessage = ({ data }) => console.log(JSON.parse(data));',
      ].join('\n'),
    },
  ];
  const patch = record && examplePatch(table, record);
  if (patch === undefined) return snippets;
  const text = [
    `await fetch(${literal(origin + recordPath(table.name, record.id))}, {`,
    `  method: 'PATCH',`,
    `  headers: { 'Content-Type': 'application/merge-patch+json', 'Idempotency-Key': crypto.randomUUID() },`,
    `  body: ${scriptBody(JSON.stringify(patch))},`,
    '});',
  ].join('\n');
  return [...snippets, { title: `Edit record ${record.id}`, text }];
}

/**
 * A merge patch that changes nothing: the first field that can be written, with the value that it has.
 *
 * @param {Table} table
 * @param {StoredRecord} record
 */
function examplePatch(table, record) {
  if (!table.writable || !hasAddress(record.id)) return undefined;
  const isShort = (/** @type {unknown} */ value) => JSON.stringify(value ?? null).length <= 120;
  const field = table.fields.find(({ name, read_only: readOnly }) => !readOnly && isShort(record[name]));
  return field && { [field.name]: record[field.name] ?? null };
}

/**
 * An expression for a body. JavaScript would round the numbers of an object that have too many digits.
 *
 * @param {string} json
 */
function scriptBody(json) {
  return JSON.stringify(JSON.parse(json)) === json ? `JSON.stringify(${json})` : literal(json);
}

/** @param {string} text */
function literal(text) {
  return `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
}
