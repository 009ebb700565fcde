// One asset: what it is.

import { h } from "../dom.js";

export function open(root, address, context) {
  const [, id] = address.path;
  const facts = h("dl", { class: "stats" });
  root.append(h("h1", {}, "Asset"), h("section", { class: "panel" }, facts));
  const ready = context.api.json(`v1/assets/${id}/values?limit=1000`).then((page) => {
    const names = [...new Set(page.values.map((one) => one.feature))];
    facts.replaceChildren(...[["id", id], ["features", names.join(", ") || "none yet"]].map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  });
  return { update() {}, ready, close() {} };
}
