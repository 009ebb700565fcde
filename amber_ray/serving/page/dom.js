// Makes nodes. Text goes in as text alone, so that what a file or a feature is called is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

// Attributes: functions by `on...` are listeners, `style` is an object, true is an attribute without a value, and
// null or false is none. Children: nodes, text, numbers, lists of these; null and false are left out.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((one) => one != null && one !== false));
  return node;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Keeps a node for each of some items, in their order: `make(item)` gives {node, update(item)}. What stays is updated, not
// made anew, so that the focus and what was opened stay too.
export function keyed(parent, items, keyOf, make) {
  const known = (parent.keyedNodes ??= new Map());
  const wanted = new Map(items.map((item) => [String(keyOf(item)), item]));
  for (const [key, { node }] of known) {
    if (wanted.has(key)) continue;
    node.remove();
    known.delete(key);
  }
  let before = null;
  for (const [key, item] of wanted) {
    if (!known.has(key)) known.set(key, make(item));
    const { node, update } = known.get(key);
    update(item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== node) parent.insertBefore(node, place);
    before = node;
  }
}
