// Chooses features by name: a field that knows the names, and what is chosen as buttons that take it out again.

import { h } from "./dom.js";

export function picker(label, features, chosen, onChange) {
  const names = h("datalist", { id: "feature-names" });
  const field = h("input", { list: "feature-names", placeholder: "add a feature", spellcheck: "false", autocomplete: "off",
    onchange: () => take(),
    oninput: (event) => event.inputType === undefined || event.inputType === "insertReplacementText" ? take() : null }); // from the list
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      take();
    }
  });
  const chips = h("span", { class: "chips" });
  const node = h("div", { class: "picker" }, h("label", {}, label, field), names, chips);

  function take() {
    const name = field.value.trim();
    if (!features().has(name)) return;
    chosen.add(name);
    field.value = "";
    show();
    onChange();
  }

  function show() {
    names.replaceChildren(...[...features().keys()].filter((name) => !chosen.has(name)).map((name) => h("option", { value: name })));
    chips.replaceChildren(...[...chosen].map((name) => h("button", {
      type: "button", class: "chip", "aria-label": `${name}, remove`,
      onclick: () => {
        chosen.delete(name);
        show();
        onChange();
        field.focus();
      },
    }, name)));
  }
  return { node, show };
}
