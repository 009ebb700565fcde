// What is there: the assets that are known.

import { h } from "../dom.js";

export function open(root, address, context) {
  const list = h("ul", { class: "names" });
  root.append(
    h("h1", { class: "unseen" }, "Catalogue"),
    h("section", { class: "panel", "aria-labelledby": "known-title" }, h("h2", { id: "known-title" }, "Assets"), list),
  );
  const ready = context.api.json("v1/assets?limit=100").then((page) => {
    list.replaceChildren(...page.assets.map((asset) =>
      h("li", {}, h("a", { href: `#/assets/${asset.id}` }, asset.uri.split("/").pop()))));
  });
  return { update() {}, ready, close() {} };
}
