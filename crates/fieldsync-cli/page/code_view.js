// Lines to copy, each with a button.

import { element } from './element.js';
import { curlSnippets, scriptSnippets } from './snippets.js';

/**
 * @param {HTMLElement} panel
 * @param {import('./catalog.js').Table} table
 * @param {import('./client/records.js').StoredRecord | undefined} record
 * @param {(text: string) => void} announce
 */
export function showCode(panel, table, record, announce) {
  const origin = location.origin;
  panel.replaceChildren(
    element('h2', {}, 'curl'),
    ...curlSnippets(table, record, origin).map((snippet) => figure(snippet, announce)),
    element('h2', {}, 'JavaScript'),
    ...scriptSnippets(table, record, origin).map((snippet) => figure(snippet, announce)),
  );
}

/**
 * @param {import('./snippets.js').Snippet} snippet
 * @param {(text: string) => void} announce
 */
function figure({ title, text }, announce) {
  const pre = element('pre', { tabindex: 0 }, element('code', {}, text));
  const button = element('button', { class: 'button copy', type: 'button', 'aria-label': `Copy: ${title}` }, 'Copy');
  button.addEventListener('click', async () => {
    const isCopied = await copy(text, pre);
    button.textContent = isCopied ? 'Copied' : 'Press Ctrl+C';
    announce(isCopied ? `Copied: ${title}.` : 'The text is selected: press Ctrl+C to copy it.');
  });
  return element('figure', { class: 'snippet' }, element('figcaption', {}, title, button), pre);
}

/**
 * @param {string} text
 * @param {HTMLElement} shown  is selected where the page may not write to the clipboard
 */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shown);
    return document.execCommand('copy');
  }
}
