// The registered features as a graph, and what each is.

import { h } from "../dom.js";
import { draw } from "../graph.js";

export function open(root, address, context) {
  const count = h("small");
  const drawn = h("div", { class: "scroll" }, h("p", { class: "faint" }, "Loading what is registered."));
  const told = h("div", { class: "about" }, h("p", { class: "faint" }, "Choose a feature to see what it is."));
  root.append(
    h("h1", { class: "unseen" }, "Features"),
    h("section", { class: "panel", "aria-labelledby": "graph-title" },
      h("h2", { id: "graph-title" }, "Features ", count), legend(), drawn, told),
  );
  let features = null, graph = null;

  function choose(name) {
    context.go(["graph"], { feature: name });
  }

  function update(address) {
    const name = address.query.get("feature");
    if (!features?.has(name)) return;
    told.replaceChildren(...about(features.get(name)));
    graph.light(new Set([name]), new Set([name]));
  }

  const ready = context.features().then((known) => {
    features = known;
    count.textContent = `${known.size} registered`;
    graph = draw([...known.values()], { onToggle: choose, onHover: () => {} });
    drawn.replaceChildren(graph.svg);
    update(address);
  });

  return { update, ready, close() {} };
}

export function legend() {
  const kinds = [["segment", "per segment"], ["asset", "per asset"], ["collection", "per collection"], ["warm", "warm model"]];
  return h("ul", { class: "legend" }, kinds.map(([name, words]) => h("li", { class: name }, words)));
}

export function about(f) {
  const params = Object.entries(f.params).map(([key, p]) => `${f.name}.${key}=${JSON.stringify(p.default)}`);
  const resources = Object.entries(f.resources).map(([key, amount]) => `${amount} ${key}`);
  return [
    h("p", {}, f.doc.split("\n\n")[0] || "No description."),
    h("code", {}, [`${f.name} ${f.version}`, `per ${f.per}`, ...resources, ...params].join("  ·  ")),
  ];
}
