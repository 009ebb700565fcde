// What failed, in groups: by the step that failed and by its sentence, whatever asset it names.

import { h, keyed } from "./dom.js";
import { many, nameOf } from "./words.js";

const SHOWN = 12;

// One sentence for all: names, keys and numbers left out.
const sentence = (f) => f.message.replace(/'(?:[^'\\]|\\.)*'|"[^"]*"/g, "…").replace(/\b[0-9a-f]{12,}\b/g, "…").replace(/\d+(\.\d+)?/g, "#");

export function groups(failures) {
  const found = new Map();
  for (const f of failures) {
    const key = JSON.stringify([f.step, f.type, sentence(f)]);
    if (!found.has(key)) found.set(key, { key, failures: [] });
    found.get(key).failures.push(f);
  }
  return [...found.values()].sort((a, b) => b.failures.length - a.failures.length);
}

// What asks for a failed step again: its asset, and of a segment that part of it.
function question(f) {
  const [id, span] = f.unit.split("@");
  const asset = /^[0-9a-f]{32}$/.test(id) ? { id } : { uri: f.uri };
  const at = /^(\d+)\+(\d+)$/.exec(span ?? "");
  const range = at ? [Number(at[1]) / 1e6, (Number(at[1]) + Number(at[2])) / 1e6] : null;
  return { features: [f.step], assets: [asset], range, refresh: true };
}

export function failureList(context) {
  const list = h("div", { class: "failures" });
  const none = h("p", { class: "faint" }, "Nothing has failed lately.");
  const again = new Map(); // by key of a failure, what became of asking again

  function group({ key }) {
    const head = h("strong"), kind = h("span", { class: "faint" }), words = h("p", { class: "sentence" });
    const blocked = h("p", { class: "faint" }), rows = h("ul", { class: "rows" }), rest = h("p", { class: "faint" });
    const trace = h("pre"), traced = h("details", {}, h("summary", {}, "traceback of the first"), trace);
    let its = [];
    const all = h("button", { type: "button", class: "quiet", onclick: () => its.slice(0, SHOWN).forEach(retry) }, "Try again");
    const node = h("article", { class: "failure" }, h("p", { class: "row" }, head, kind, all), words, blocked, rows, rest, traced);
    return {
      node,
      update({ failures }) {
        its = failures;
        const [first] = failures;
        head.textContent = first.step || "asset";
        kind.textContent = `${first.title} · ${many(failures.length, "time")} · ${first.kind === "input" ? "the media's fault" : first.kind === "feature" ? "the feature's fault" : "the system's fault"}`;
        words.textContent = first.message;
        const above = [...new Set(failures.flatMap((f) => f.blocked ?? []))];
        blocked.textContent = above.length ? `without it there is no ${above.join(", ")}` : "";
        traced.hidden = !first.traceback;
        trace.textContent = first.traceback;
        rest.textContent = failures.length > SHOWN ? `and ${many(failures.length - SHOWN, "more", "more")}` : "";
        keyed(rows, failures.slice(0, SHOWN), (f) => f.key, one);
      },
    };
  }

  function one(f) {
    const state = h("span", { class: "faint", role: "status" });
    const id = f.unit.split("@")[0];
    const name = f.uri ? nameOf(f.uri) : f.unit;
    const node = h("li", {}, /^[0-9a-f]{32}$/.test(id) ? h("a", { href: `#/assets/${id}` }, name) : name, place(f), " ", state);
    return { node, update: (f) => (state.textContent = again.get(f.key) ?? (f.attempts > 1 ? `tried ${f.attempts} times` : "")) };
  }

  async function retry(f) {
    again.set(f.key, "asked again");
    try {
      const view = await context.api.post("v1/compute", question(f), { Prefer: "wait=30" });
      again.set(f.key, { done: "it has a value now", failed: "failed again", running: "it runs" }[view.state] ?? view.state);
    } catch (error) {
      again.set(f.key, error.message);
    }
    for (const [key, { update }] of list.keyedNodes) {
      const found = last.find((one) => one.key === key);
      if (found) update(found);
    }
  }

  let last = [];
  return {
    node: h("div", {}, none, list),
    update(failures) {
      last = groups(failures);
      none.hidden = last.length > 0;
      keyed(list, last, (one) => one.key, group);
    },
  };
}

function place(f) {
  const at = /@(\d+)\+(\d+)$/.exec(f.unit);
  return at ? `, ${Number(at[1]) / 1e6} to ${(Number(at[1]) + Number(at[2])) / 1e6} s` : "";
}
