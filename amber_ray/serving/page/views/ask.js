// Choose features in the graph, ask for an asset, watch the answers come.
//
// The question is in the address, so that it can be sent to somebody; with `go` it is asked at once.

import { h } from "../dom.js";
import { draw } from "../graph.js";
import { Results, place } from "../results.js";
import { about, legend } from "./graph.js";

export function open(root, address, context) {
  const { api, say } = context;
  const chosen = new Set();
  let features = new Map(), graph = null, running = null;

  const counted = h("small"), drawn = h("div", { class: "scroll", id: "graph" }, h("p", { class: "faint" }, "Loading what is registered."));
  const told = h("div", { class: "about" }, h("p", { class: "faint" }, "Click features to choose them."));
  const uri = h("input", { name: "uri", placeholder: "/media/film.mp4 or file:///media/film.mp4", required: true, spellcheck: "false", onchange: note });
  const file = h("input", { type: "file", accept: "video/*,audio/*,image/*", hidden: true, "aria-label": "File", onchange: upload });
  const uploaded = h("span", { class: "faint", role: "status" });
  const chips = h("span", { class: "chips" }, h("span", { class: "faint" }, "none chosen"));
  const params = h("input", { placeholder: "frames.fps=2", spellcheck: "false", onchange: note });
  const range = h("input", { placeholder: "10:20", pattern: "\\s*[\\d.]+\\s*:\\s*[\\d.]+\\s*", onchange: note });
  const cancel = h("button", { type: "button", class: "quiet", hidden: true, onclick: withdraw }, "Cancel");
  const fill = h("div", { class: "fill" });
  const status = h("p", { role: "status" });
  const progressing = h("div", { class: "progress", hidden: true }, h("div", { class: "bar" }, fill), status);
  const list = h("div", { class: "results" }), count = h("small");
  const panel = h("section", { class: "panel wide", "aria-labelledby": "results-title", hidden: true },
    h("h2", { id: "results-title" }, "Results ", count), list);
  const results = new Results(panel, list, count);
  const form = h("form", { onsubmit: compute },
    h("label", {}, "Asset", uri),
    h("p", { class: "row" }, h("button", { type: "button", class: "quiet", onclick: () => file.click() }, "Upload a file"), file, uploaded),
    h("div", { class: "field" }, "Features", chips),
    h("div", { class: "pair" }, h("label", {}, "Parameters", params), h("label", {}, "Range, seconds", range)),
    h("p", { class: "row" },
      h("button", {}, "Compute"), h("button", { type: "button", class: "quiet", onclick: explain }, "Explain"), cancel));

  root.append(
    h("h1", { class: "unseen" }, "Ask"),
    h("section", { class: "panel", "aria-labelledby": "graph-title" },
      h("h2", { id: "graph-title" }, "Features ", counted), legend(), drawn, told),
    h("section", { class: "panel", "aria-labelledby": "ask-title" },
      h("h2", { id: "ask-title" }, "Compute"), form, progressing),
    panel,
  );

  function note() {
    const query = { uri: uri.value.trim(), feature: [...chosen], params: params.value.trim(), range: range.value.trim() };
    context.go(["ask"], query, { replace: true });
  }

  function toggle(name) {
    if (!chosen.delete(name)) chosen.add(name);
    showChosen();
    tell(name);
    note();
  }

  function showChosen() {
    const made = [...chosen].map((name) =>
      h("button", { type: "button", class: "chip", "aria-label": `${name}, remove`, onclick: () => toggle(name) }, name));
    chips.replaceChildren(...(made.length ? made : [h("span", { class: "faint" }, "none chosen")]));
    graph?.light(chosen, chosen);
  }

  function tell(name) {
    told.replaceChildren(...about(features.get(name)));
    graph.light(new Set([...chosen, name]), chosen);
  }

  function question() {
    if (!chosen.size) throw new Error("choose at least one feature in the graph");
    const given = {};
    for (const pair of params.value.split(/[,\s]+/).filter(Boolean)) {
      const [name, value] = pair.split("=");
      if (value === undefined) throw new Error(`write a parameter as feature.name=value, not ${pair}`);
      try {
        given[name] = JSON.parse(value);
      } catch {
        given[name] = value;
      }
    }
    const seconds = range.value.trim() ? range.value.split(":").map(Number) : null;
    const asset = uri.value.trim();
    return { features: [...chosen], assets: [/^[0-9a-f]{32}$/.test(asset) ? { id: asset } : { uri: asset }], params: given, range: seconds };
  }

  function progress(done, total, state) {
    progressing.hidden = false;
    progressing.classList.toggle("bad", state === "failed" || state === "cancelled");
    fill.style.width = `${total ? (100 * done) / total : state === "running" ? 0 : 100}%`;
    const seconds = ((performance.now() - running.began) / 1000).toFixed(1);
    status.textContent = `${state}, ${done} of ${total} steps, ${seconds} s`;
  }

  async function compute(event) {
    event?.preventDefault();
    running?.stop.abort();
    say(null);
    results.clear();
    const mine = (running = { began: performance.now(), stop: new AbortController(), id: null });
    try {
      const view = await api.post("v1/compute", question(), { Prefer: "wait=0" });
      if (mine !== running) return;
      mine.id = view.id;
      follow(view);
      if (view.state !== "running") return;
      cancel.hidden = false;
      for await (const [name, data] of api.events(`v1/requests/${view.id}/events`, mine.stop.signal)) {
        if (mine !== running) return;
        if (name === "done") follow(data);
        else if (name === "error") throw new Error(data.detail);
        else {
          progress(data.done, data.total, "running");
          if (data.result) results.add(data.result, features.get(data.result.feature));
        }
      }
    } catch (error) {
      if (mine === running && error.name !== "AbortError") say(error);
    } finally {
      if (mine === running) cancel.hidden = true;
    }
  }

  function follow(view) {
    progress(view.progress.done, view.progress.total, view.state);
    for (const result of view.results) results.add(result, features.get(result.feature));
  }

  function withdraw() {
    if (running?.id) api.call(`v1/requests/${running.id}`, { method: "DELETE" }).catch(say);
  }

  async function explain() {
    say(null);
    try {
      const plan = await api.post("v1/explain", question());
      results.clear();
      const row = (kind, cells) => h("tr", {}, cells.map((cell) => h(kind, {}, cell)));
      const steps = plan.steps.slice(0, 500).map((step) => {
        const wants = Object.entries(step.resources).map(([name, amount]) => `${amount} ${name}`).join(", ");
        const of = step.expected == null ? place(step) : `${place(step)}: ${step.expected} expected`;
        return row("td", [step.feature, of, step.state, step.seconds == null ? "" : `${step.seconds.toFixed(2)} s`, wants]);
      });
      list.append(h("table", {}, row("th", ["feature", "of", "state", "expected", "resources"]), steps));
      panel.hidden = false;
      const states = Object.entries(plan.states).map(([state, n]) => `${n} ${state}`).join(", ");
      const unknown = plan.unknown.length ? `; nobody knows yet how long ${plan.unknown.join(", ")} take` : "";
      const work = plan.seconds ? `; about ${plan.seconds.toFixed(1)} s of work` : "";
      count.textContent = states + work + unknown;
    } catch (error) {
      say(error);
    }
  }

  async function upload() {
    const sent = file.files[0];
    if (!sent) return;
    uploaded.textContent = `sending ${sent.name}`;
    try {
      const headers = { "Content-Type": sent.type || "application/octet-stream" };
      const asset = await api.json("v1/assets", { method: "POST", headers, body: sent });
      uri.value = asset.id;
      uploaded.textContent = `${sent.name}, ${asset.media_type}`;
      note();
    } catch (error) {
      uploaded.textContent = "";
      say(error);
    }
  }

  function update({ query }) {
    uri.value = query.get("uri") ?? "";
    params.value = query.get("params") ?? "";
    range.value = query.get("range") ?? "";
    chosen.clear();
    for (const name of query.getAll("feature")) if (features.has(name)) chosen.add(name);
    showChosen();
    if (query.has("go")) compute();
  }

  const ready = context.features().then((known) => {
    features = known;
    counted.textContent = `${known.size} registered`;
    graph = draw([...known.values()], { onToggle: toggle, onHover: tell });
    drawn.replaceChildren(graph.svg);
    update(address);
  });

  return {
    update,
    ready,
    close() {
      running?.stop.abort();
      running = null;
    },
  };
}
