// Where a value is from, and why it is or is not there: beside the tracks, about what was clicked.

import { h } from "../dom.js";
import { clock, took } from "../words.js";
import { Grid } from "./arrow.js";
import { plain, shown } from "./values.js";

const DEEP = 6; // levels of a lineage that are drawn
const BROAD = 8; // inputs of one value that are drawn; of the rest the number
const ROWS = 60;

export class Panel {
  constructor(root, api) {
    Object.assign(this, { root, api, turn: 0 });
    this.body = h("div", {}, h("p", { class: "faint" }, "Click a track, and here is what is there at that time and where it is from."));
    root.replaceChildren(h("h2", {}, "Where it is from"), this.body);
  }

  async show(track, time) {
    const mine = ++this.turn;
    const { unit, part } = track.at(time);
    const where = !unit ? "not asked for yet" : track.asset.duration ? `${clock(unit.start, 0.1)} to ${clock(unit.end, 0.1)}` : "the picture";
    const value = h("div", { class: "value" });
    const facts = h("div", {}, h("p", { class: "faint" }, unit ? "Asking where it is from." : ""));
    this.body.replaceChildren(h("h3", {}, track.text), h("p", { class: "faint" }, where), value, facts);
    if (!unit) return facts.replaceChildren(h("p", {}, track.memory.onlyReads ? "It is not computed, and your token may only read." : ""));
    this.value(value, track, unit, part, time);
    try {
      const known = unit.state === "ready" && !unit.each;
      const found = known ? lineage(await this.api.json(`v1/values/${unit.key}/lineage`), unit)
        : plan(await this.api.post("v1/explain", track.question(unit.start, Math.min(unit.end, unit.start + 1e-3))), unit);
      if (mine === this.turn) facts.replaceChildren(...found.filter(Boolean));
    } catch (error) {
      if (mine === this.turn) facts.replaceChildren(h("p", { class: "error" }, error.message));
    }
  }

  value(root, track, unit, part, time) {
    if (unit.failure) {
      const { step, message, traceback } = unit.failure;
      root.append(h("p", { class: "error" }, step && step !== track.feature ? `${step}: ${message}` : message));
      if (traceback) root.append(h("details", {}, h("summary", {}, "traceback"), h("pre", {}, traceback)));
    } else if (!unit.parts) root.append(h("p", {}, unit.state === "ready" ? "Being read." : `It is ${STATES[unit.state] ?? unit.state}.`));
    else if (!part) root.append(h("p", {}, "Nothing was found at this time."));
    else root.append(...told(part, time));
  }
}

const STATES = { missing: "not computed", pending: "waiting to be computed", queued: "waiting to be computed", running: "being computed" };

function told(part, time) {
  const found = [];
  if (part.kind === "image") found.push(picture(part.bytes));
  for (const bytes of (part.pictures ?? []).slice(0, 12)) found.push(picture(bytes));
  for (const line of part.kind === "curve" && !part.points ? part.lines : []) {
    const i = nearest(line, part, time);
    found.push(h("p", { class: "number" }, line.name ? `${line.name} ` : "", shown(Number(line.values[i]))));
  }
  if (part.kind === "outline") {
    const i = Math.max(0, part.times.findLastIndex((one) => one <= time));
    found.push(h("p", { class: "number" }, `${shown(part.low[i])} to ${shown(part.high[i])}`));
  }
  if (part.kind === "picture") found.push(h("p", {}, `${part.rows} × ${part.columns} numbers from ${shown(part.low)} to ${shown(part.high)}`));
  const { rest } = part;
  if (rest && typeof rest === "object" && !(rest instanceof Grid)) found.push(table(rest));
  else if (part.text || part.boxes) found.push(h("p", {}, part.text || "none"));
  if (!rest && part.boxes?.length) found.push(table(part.boxes.map(({ points, ...box }) => box)));
  return found;
}

function nearest(line, part, time) {
  const count = line.values.length;
  if (!line.times) return Math.min(count - 1, Math.max(0, Math.floor(((time - part.start) / (part.end - part.start)) * count)));
  let i = 0;
  while (i + 1 < count && line.times[i + 1] <= time) i++;
  return i;
}

function picture(bytes) {
  const image = h("img", { alt: "", loading: "lazy" });
  const url = URL.createObjectURL(new Blob([bytes]));
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  image.addEventListener("error", () => image.replaceWith(h("p", {}, `${bytes.length} bytes`)));
  image.src = url;
  return image;
}

function table(value) {
  const lines = Array.isArray(value) ? value.slice(0, ROWS) : [value];
  return h("div", { class: "inner", tabindex: 0, role: "region", "aria-label": "value" }, lines.map((line) => h("table", {}, h("tbody", {},
    Object.entries(line ?? {}).filter(([, one]) => one != null && !(one instanceof Uint8Array)).map(([name, one]) =>
      h("tr", {}, h("th", { scope: "row" }, name.replaceAll("_", " ")), h("td", {}, typeof one === "object" ? JSON.stringify(one, plain).slice(0, 2000) : shown(one))))))));
}

function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value != null && value !== "").map(([name, value]) =>
    [h("dt", {}, name), h("dd", {}, value)]));
}

function lineage(found, unit) {
  const nodes = new Map(found.nodes.map((node) => [node.key, node]));
  const one = nodes.get(found.key);
  const is = one?.known === false ? {} : one ?? {};
  const from = unit.cached === undefined ? null : unit.cached ? "read: it was there already" : "computed now";
  const about = facts([
    ["version", is.version],
    ["code", is.code],
    ["parameters", Object.entries(is.params ?? {}).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(" ")],
    ["made", is.made ? new Date(is.made * 1000).toLocaleString() : ""],
    ["took", is.made ? took(is.seconds) : ""],
    ["device", is.device],
    ["where", [is.stored && "stored", is.memory && "in memory"].filter(Boolean).join(", ")],
    ["this time", from],
    ["key", found.key],
  ]);
  const media = [...new Set(found.assets.map((asset) => asset.uri))];
  return [about, h("h3", {}, "Made from"), h("ul", { class: "tree" }, branch(found.key, nodes, new Set(), 0)),
    h("p", { class: "faint" }, media.length ? `of ${media.join(", ")}` : "")];
}

// A value and its inputs, each drawn where it is met first.
function branch(key, nodes, met, depth) {
  const node = nodes.get(key);
  if (!node || node.known === false) return h("li", {}, h("code", {}, `${key.slice(0, 8)}…`), " no longer known");
  const where = node.unit?.start === undefined ? "" : ` ${clock(node.unit.start, 0.1)}–${clock(node.unit.end, 0.1)}`;
  const words = [h("b", {}, node.feature), where, h("span", { class: "faint" }, node.made ? ` ${took(node.seconds)}, ${node.device}` : " kept by nobody")];
  if (met.has(key)) return h("li", {}, words, h("span", { class: "faint" }, " as above"));
  met.add(key);
  if (!node.inputs.length || depth >= DEEP) return h("li", {}, words);
  const more = node.inputs.length - BROAD;
  return h("li", {}, words, h("ul", {}, node.inputs.slice(0, BROAD).map((input) => branch(input, nodes, met, depth + 1)),
    more > 0 && h("li", { class: "faint" }, `and ${more} more`)));
}

const DONE = { run: "must run", wait: "is under way", read: "is stored", use: "is in memory", fail: "has failed", skip: "is not needed" };

// Why a value is not there: what each step of it would do, by feature.
function plan(found, unit) {
  const rows = new Map();
  for (const step of found.steps) {
    const id = `${step.feature} ${step.action}`;
    const row = rows.get(id) ?? { feature: step.feature, action: step.action, count: 0, seconds: 0, known: true, resources: step.resources };
    row.count++;
    if (step.seconds === null) row.known = false;
    else row.seconds += step.seconds;
    rows.set(id, row);
  }
  const estimate = found.unknown.length ? `nobody knows yet how long ${found.unknown.join(", ")} take` : `about ${took(found.seconds)} of work`;
  return [
    h("h3", {}, unit.each ? `It is once for each range of ${unit.each}, which is not known yet` : "Why it is not there"),
    h("ol", { class: "plan" }, [...rows.values()].map((row) => h("li", { class: row.action },
      h("b", {}, row.feature), ` ${DONE[row.action] ?? row.action}${row.count > 1 ? `, ${row.count} times` : ""}`,
      h("span", { class: "faint" }, row.action === "run" ? ` ${row.known ? took(row.seconds) : ""} ${Object.entries(row.resources).map(([name, n]) => `${n} ${name}`).join(", ")}` : "")))),
    [...rows.values()].some((row) => row.action === "run") && h("p", { class: "faint" }, estimate),
  ];
}
