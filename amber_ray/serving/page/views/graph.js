// The registered features as a graph: what each is, what it does now and what it takes; and the plan of an asset on it.
//
// `#/graph?feature=shots&asset=ID` draws what computing `shots` of that asset would do: what is there, what is missing, and
// what that would cost.

import { h } from "../dom.js";
import { draw } from "../graph.js";
import { of } from "../series.js";
import { count, lasting, many } from "../words.js";

const EVERY_MS = 3000;
const THERE = new Set(["hot", "kept", "cold"]);

export function open(root, address, context) {
  const { api } = context;
  const counted = h("small");
  const drawn = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Graph" }, h("p", { class: "faint" }, "Loading what is registered."));
  const told = h("div", { class: "about" }, h("p", { class: "faint" }, "Choose features to see what they are."));
  const asset = h("input", { name: "asset", placeholder: "/media/film.mp4, or an asset's id", spellcheck: "false" });
  const words = h("p", { class: "status", role: "status" });
  const table = h("div");
  const form = h("form", { class: "planning", onsubmit: planned },
    h("label", {}, "The plan of an asset", asset), h("button", {}, "Draw"),
    h("button", { type: "button", class: "quiet", onclick: () => go({ asset: "" }) }, "Live numbers"));
  root.append(
    h("h1", { class: "unseen" }, "Features"),
    h("section", { class: "panel", "aria-labelledby": "graph-title" },
      h("h2", { id: "graph-title" }, "Features ", counted), legend(), form, words, drawn, told, table),
  );
  let features = null, graph = null, chosen = new Set(), plan = null, turn = 0;

  function go(changes) {
    context.go(["graph"], { feature: [...chosen], asset: asset.value.trim(), ...changes });
  }

  function toggle(name) {
    const next = new Set(chosen);
    if (!next.delete(name)) next.add(name);
    go({ feature: [...next] });
  }

  function planned(event) {
    event.preventDefault();
    if (!chosen.size) context.say(new Error("choose the features to plan in the graph"));
    else go({});
  }

  function hover(name) {
    told.replaceChildren(...about(features.get(name)));
  }

  async function update({ query }) {
    if (!graph) return;
    const mine = ++turn;
    chosen = new Set(query.getAll("feature").filter((name) => features.has(name)));
    asset.value = query.get("asset") ?? "";
    graph.light(chosen, chosen);
    for (const name of [...chosen].slice(-1)) hover(name);
    if (plan) show([...features.values()]);
    plan = null;
    table.replaceChildren();
    if (!asset.value || !chosen.size) {
      words.textContent = "";
      return live();
    }
    try {
      const at = asset.value.trim();
      const assets = [/^[0-9a-f]{32}$/.test(at) ? { id: at } : { uri: at }];
      const found = await api.post("v1/explain", { features: [...chosen], assets });
      if (mine !== turn) return;
      plan = found;
      context.say(null);
      showPlan();
    } catch (error) {
      if (mine === turn) context.say(error);
    }
  }

  function show(some) {
    graph = draw(some.map((f) => ({ ...f, inputs: f.inputs.filter((name) => some.some((one) => one.name === name)) })),
      { onToggle: toggle, onHover: hover, room: true });
    drawn.replaceChildren(graph.svg);
    graph.light(chosen, chosen);
  }

  // --- what an asset's plan is

  function showPlan() {
    const groups = new Map();
    for (const step of plan.steps) {
      const one = groups.get(step.feature) ?? { steps: 0, there: 0, failed: 0, busy: 0, run: 0, seconds: 0, known: true };
      one.steps++;
      if (THERE.has(step.state)) one.there++;
      else if (step.state === "failed") one.failed++;
      else if (step.state === "running" || step.state === "queued") one.busy++;
      if (step.action === "run") {
        one.run++;
        if (step.seconds == null) one.known = false;
        else one.seconds += step.seconds;
      }
      groups.set(step.feature, one);
    }
    show([...features.values()].filter((f) => groups.has(f.name))); // what it stands on, and nothing else
    for (const [name, one] of groups) {
      graph.tell(name, lineOf(one), one.failed ? "failed" : one.busy ? "busy" : one.there === one.steps ? "there" : one.run ? "missing" : "");
    }
    const states = Object.entries(plan.states).map(([state, n]) => `${count(n)} ${state}`).join(", ");
    const work = [plan.seconds && `about ${lasting(plan.seconds)} of work`, plan.unknown.length && `nobody knows yet how long ${plan.unknown.join(", ")} take`];
    const toRun = plan.steps.filter((step) => step.action === "run").length;
    words.textContent = `${many(plan.steps.length, "step")}: ${states}. ` +
      (toRun ? `Asking would run ${[many(toRun, "step"), ...work.filter(Boolean)].join("; ")}.` : "Asking would run nothing.");
    const row = (kind, cells) => h("tr", {}, cells.map((cell) => h(kind, {}, cell)));
    table.replaceChildren(h("table", {}, row("th", ["feature", "there", "on its way", "failed", "to run", "takes about"]),
      [...groups].map(([name, one]) => row("td", [name, `${one.there} of ${one.steps}`, one.busy || "", one.failed || "", one.run || "",
        !one.run ? "" : one.known ? lasting(one.seconds) : "nobody knows yet"]))));
  }

  function lineOf({ steps, there, failed, busy, run, seconds, known }) {
    if (failed) return `${failed} of ${steps} failed`;
    if (busy) return `${there} of ${steps}, ${busy} on the way`;
    if (there === steps) return steps === 1 ? "there" : `all ${count(steps)} there`;
    if (!run) return there ? `${there} of ${steps} there` : "not needed";
    return `${count(run)} to run${known ? `, ${lasting(seconds)}` : ""}`;
  }

  // --- what is done now

  async function live() {
    if (plan || !graph) return;
    try {
      const stats = await api.json("v1/stats");
      if (plan || closed) return;
      const by = (name, choose = () => true) => {
        const found = new Map();
        for (const one of of(stats, name)) if (choose(one)) found.set(one.feature, (found.get(one.feature) ?? 0) + one.value);
        return found;
      };
      const runs = by("on_the_way", (one) => one.state === "running"), waits = by("on_the_way", (one) => one.state !== "running");
      const made = by("steps_total", (one) => one.outcome === "computed"), failed = by("steps_total", (one) => one.outcome === "failed");
      const seconds = by("step_seconds_sum"), times = by("step_seconds_count");
      for (const name of features.keys()) {
        const busy = [runs.get(name) && `${count(runs.get(name))} run`, waits.get(name) && `${count(waits.get(name))} wait`].filter(Boolean);
        const mean = times.get(name) ? `, ${lasting(seconds.get(name) / times.get(name))}` : "";
        const past = [made.get(name) && `${count(made.get(name))} made${mean}`, failed.get(name) && `${count(failed.get(name))} failed`].filter(Boolean);
        graph.tell(name, (busy.length ? busy : past).join(", "), busy.length ? "busy" : "");
      }
    } catch (error) {
      if (!closed) context.say(error);
    }
  }

  let closed = false;
  const timer = setInterval(() => document.hidden || live(), EVERY_MS);
  const ready = context.features().then((known) => {
    features = known;
    counted.textContent = `${known.size} registered`;
    show([...known.values()]);
    return update(address);
  });
  return {
    update,
    ready,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
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
