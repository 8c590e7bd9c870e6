// Makes an element. Text becomes text nodes and attributes are set one by one, so no data is ever parsed as markup.

/**
 * @param {string} name
 * @param {Record<string, string | number | boolean | undefined>} attributes  `true` for one without a value; `false` and
 *   `undefined` leave it out
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    made.setAttribute(attribute, value === true ? '' : String(value));
  }
  made.append(...children);
  return made;
}
