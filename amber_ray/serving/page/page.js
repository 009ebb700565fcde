// The page: choose features in the graph, ask for an asset, watch the answers come.

import { Refused, call, events, json, post, useToken } from "./api.js";
import { draw } from "./graph.js";
import { Results, place } from "./results.js";

const $ = (id) => document.getElementById(id);
const features = new Map();
const chosen = new Set();
const results = new Results($("results-panel"), $("results"), $("results-count"));
let graph = null, running = null;

function text(name, content, className = "") {
  const node = document.createElement(name);
  node.textContent = content;
  if (className) node.className = className;
  return node;
}

function say(error) {
  $("error").hidden = !error;
  $("error").textContent = error ? error.message || String(error) : "";
  if (error instanceof Refused && error.status === 401) $("sign-in").hidden = false;
}

function toggle(name) {
  if (!chosen.delete(name)) chosen.add(name);
  const chips = [...chosen].map((feature) => {
    const chip = text("button", feature, "chip");
    chip.type = "button";
    chip.addEventListener("click", () => toggle(feature));
    return chip;
  });
  $("chosen").replaceChildren(...(chips.length ? chips : [text("span", "none chosen", "faint")]));
  graph.light(chosen, chosen);
  about(name);
}

function about(name) {
  const f = features.get(name);
  const lines = [text("p", f.doc.split("\n\n")[0] || "No description.")];
  const params = Object.entries(f.params).map(([key, p]) => `${f.name}.${key}=${JSON.stringify(p.default)}`);
  const resources = Object.entries(f.resources).map(([key, amount]) => `${amount} ${key}`);
  lines.push(text("code", [`${f.name} ${f.version}`, `per ${f.per}`, ...resources, ...params].join("  ·  ")));
  $("about").replaceChildren(...lines);
  graph.light(new Set([...chosen, name]), chosen);
}

function question() {
  if (!chosen.size) throw new Error("choose at least one feature in the graph");
  const params = {};
  for (const pair of $("params").value.split(/[,\s]+/).filter(Boolean)) {
    const [name, value] = pair.split("=");
    if (value === undefined) throw new Error(`write a parameter as feature.name=value, not ${pair}`);
    try {
      params[name] = JSON.parse(value);
    } catch {
      params[name] = value;
    }
  }
  const range = $("range").value.trim() ? $("range").value.split(":").map(Number) : null;
  const uri = $("uri").value.trim();
  return { features: [...chosen], assets: [/^[0-9a-f]{32}$/.test(uri) ? { id: uri } : { uri }], params, range };
}

function progress(done, total, state) {
  $("progress").hidden = false;
  $("progress").classList.toggle("bad", state === "failed" || state === "cancelled");
  $("fill").style.width = `${total ? (100 * done) / total : state === "running" ? 0 : 100}%`;
  const seconds = ((performance.now() - running.began) / 1000).toFixed(1);
  $("status").textContent = `${state}, ${done} of ${total} steps, ${seconds} s`;
}

async function compute(event) {
  event.preventDefault();
  running?.stop.abort();
  say(null);
  results.clear();
  const mine = (running = { began: performance.now(), stop: new AbortController(), id: null });
  try {
    const view = await post("v1/compute", question(), { Prefer: "wait=0" });
    mine.id = view.id;
    follow(view);
    if (view.state !== "running") return;
    $("cancel").hidden = false;
    for await (const [name, data] of events(`v1/requests/${view.id}/events`, mine.stop.signal)) {
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
    if (mine === running) $("cancel").hidden = true;
    refresh();
  }
}

function follow(view) {
  progress(view.progress.done, view.progress.total, view.state);
  for (const result of view.results) results.add(result, features.get(result.feature));
}

async function explain() {
  say(null);
  try {
    const plan = await post("v1/explain", question());
    results.clear();
    const table = document.createElement("table");
    const row = (kind, cells) => {
      const line = document.createElement("tr");
      line.append(...cells.map((cell) => text(kind, cell)));
      table.append(line);
    };
    row("th", ["feature", "of", "state", "expected", "resources"]);
    for (const step of plan.steps.slice(0, 500)) {
      const wants = Object.entries(step.resources).map(([name, amount]) => `${amount} ${name}`).join(", ");
      const of = step.expected == null ? place(step) : `${place(step)}: ${step.expected} expected`;
      row("td", [step.feature, of, step.state, step.seconds == null ? "" : `${step.seconds.toFixed(2)} s`, wants]);
    }
    $("results").append(table);
    $("results-panel").hidden = false;
    const states = Object.entries(plan.states).map(([state, n]) => `${n} ${state}`).join(", ");
    const unknown = plan.unknown.length ? `; nobody knows yet how long ${plan.unknown.join(", ")} take` : "";
    const about = plan.seconds ? `; about ${plan.seconds.toFixed(1)} s of work` : "";
    $("results-count").textContent = states + about + unknown;
  } catch (error) {
    say(error);
  }
}

async function upload() {
  const file = $("file").files[0];
  if (!file) return;
  $("upload").textContent = `sending ${file.name}`;
  try {
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    const asset = await json("v1/assets", { method: "POST", headers, body: file });
    $("uri").value = asset.id;
    $("upload").textContent = `${file.name}, ${asset.media_type}`;
  } catch (error) {
    $("upload").textContent = "";
    say(error);
  }
}

const units = (name, value) => {
  if (!name.includes("bytes")) return (Number.isInteger(value) ? value : Number(value.toPrecision(6))).toLocaleString("en");
  const steps = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  for (; value >= 1000 && i < 4; i++) value /= 1000;
  return `${Number(value.toPrecision(3))} ${steps[i]}`;
};

async function refresh() {
  try {
    const [stats, known] = await Promise.all([json("v1/stats"), json("v1/failures")]);
    $("stats").replaceChildren(
      ...Object.entries(stats).filter(([name]) => !/_(bucket|sum|count)\b|feature="/.test(name)).map(([name, value]) => {
        const cell = document.createElement("div");
        const label = text("dt", name.replace(/_total$/, "").replaceAll("_", " "));
        label.title = name;
        cell.append(label, text("dd", units(name, value)));
        return cell;
      }),
    );
    $("failures").replaceChildren(...known.failures.slice(0, 8).map((f) => {
      const about = f.uri ? ` of ${f.uri.replace(/^.*\//, "")}` : "";
      return text("p", `${f.step}${about}: ${f.message}`);
    }));
    alive("up", "up");
  } catch (error) {
    alive("down", error instanceof Refused ? "refused" : "no answer");
    if (error instanceof Refused && error.status === 401) $("sign-in").hidden = false;
  }
}

function alive(className, words) {
  $("alive").className = `pill ${className}`;
  $("alive").textContent = words;
}

async function load() {
  try {
    const listed = (await json("v1/features")).features;
    features.clear();
    for (const f of listed) features.set(f.name, f);
    $("count").textContent = `${listed.length} registered`;
    graph = draw(listed, { onToggle: toggle, onHover: about });
    $("graph").replaceChildren(graph.svg);
    $("sign-in").hidden = true;
    say(null);
  } catch (error) {
    say(error);
  }
  await refresh();
}

$("ask").addEventListener("submit", compute);
$("explain").addEventListener("click", explain);
$("cancel").addEventListener("click", () => {
  if (running?.id) call(`v1/requests/${running.id}`, { method: "DELETE" }).catch(say);
});
$("pick").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", upload);
$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value.trim());
  load();
});
setInterval(() => document.hidden || refresh(), 3000);

const asked = new URLSearchParams(location.search);
if (asked.has("uri")) $("uri").value = asked.get("uri");
load().then(() => {
  for (const name of asked.getAll("feature")) if (features.has(name)) toggle(name);
  if (asked.has("go")) $("ask").requestSubmit();
});
