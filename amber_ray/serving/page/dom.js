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
