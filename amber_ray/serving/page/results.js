// One card per result, with the value shown as what it is: a picture, a number, a curve, a strip, or text.

import { call } from "./api.js";
import { took } from "./words.js";

const SHOWN = 200, FETCHED = 60;

function element(name, text = "", className = "") {
  const node = document.createElement(name);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

export function place(result) {
  if (result.unit?.collection) return `collection of ${result.unit.collection.length}`;
  const asset = (result.uri || result.asset || "").split("/").pop();
  const seconds = (value) => `${Number(value.toFixed(2))}`;
  if (result.unit?.each) return `${asset}, each of ${result.unit.each}`;
  return result.unit ? `${asset}, ${seconds(result.unit.start)} to ${seconds(result.unit.end)} s` : asset;
}

const listOf = (result) => `${result.feature}|${result.uri || result.asset}`;

const making = (result) => (result.cached ? "cached" : result.seconds == null ? "" : took(result.seconds));

export class Results {
  constructor(panel, list, count) {
    Object.assign(this, { panel, list, count });
  }

  clear() {
    this.cards = new Map();
    this.fetched = 0;
    this.list.replaceChildren();
    this.panel.hidden = true;
  }

  add(result, feature) {
    const id = `${result.key}|${result.feature}|${result.uri}`;
    if (this.cards.get(id)?.state === result.state) return;
    const old = this.cards.get(id)?.card;
    if (result.unit && !result.unit.each) this.opened(result);
    if (!old && this.cards.size >= SHOWN) return;
    const card = element("article", "", `result ${result.state}`);
    const head = element("h3", result.feature || "");
    head.append(element("span", result.state === "ready" ? making(result) : result.state));
    const where = element("p", place(result), "where");
    where.title = result.uri || result.asset || "";
    card.append(head, where);
    if (old) old.replaceWith(card);
    else this.list.append(card);
    this.cards.set(id, { state: result.state, card, each: result.unit?.each && listOf(result) });
    this.panel.hidden = false;
    const ready = [...this.cards.values()].filter((c) => c.state === "ready").length;
    this.count.textContent = `${ready} of ${this.cards.size} ready`;
    if (result.error) {
      const { step, message, title, traceback } = result.error;
      card.append(element("p", `${step && step !== result.feature ? `${step}: ` : ""}${message || title}`));
      if (traceback) {
        const more = element("details", "");
        more.append(element("summary", "traceback"), element("pre", traceback));
        card.append(more);
      }
    } else if (result.state === "ready" && result.unit?.each) {
      card.append(element("p", "nothing was found"));
    } else if (result.state === "ready") {
      this.value(card, result, feature).catch((error) => card.append(element("p", error.message, "error")));
    }
  }

  // The windows are known: the card that stood for each of them goes.
  opened(result) {
    for (const [id, one] of this.cards) {
      if (one.each !== listOf(result)) continue;
      one.card.remove();
      this.cards.delete(id);
    }
  }

  async value(card, result, feature) {
    if ("value" in result) return show(card, result.value);
    if (++this.fetched > FETCHED) return;
    const media = feature?.returns?.media || "";
    const answer = await call(result.href, { headers: { Accept: `${media ? `${media}, ` : ""}application/json;q=0.5` } });
    if (answer.headers.get("Content-Type").startsWith("image/")) {
      const image = new Image();
      image.alt = `${result.feature} of ${place(result)}`;
      image.src = URL.createObjectURL(await answer.blob());
      await image.decode();
      if (image.naturalWidth > 600) card.classList.add("big");
      card.append(image);
    } else {
      show(card, await answer.json());
    }
  }
}

function shape(value) {
  const sizes = [];
  for (let inner = value; Array.isArray(inner); inner = inner[0]) sizes.push(inner.length);
  return sizes;
}

function numeric(value) {
  return Array.isArray(value) && value.length > 0 && value.flat(Infinity).every((v) => typeof v === "number");
}

function show(card, value) {
  if (typeof value === "number") card.append(element("p", rounded(value), "number"));
  else if (numeric(value)) {
    const sizes = shape(value);
    card.append(sizes.length === 1 ? curve(value) : strip(value));
    card.append(element("p", `${sizes.join(" × ")} numbers`, "shape"));
  } else if (isRecord(value)) fields(card, value);
  else if (Array.isArray(value) && value.length && value.every(isRecord)) card.append(table(value));
  else card.append(element("pre", typeof value === "string" ? value : JSON.stringify(value, null, 1).slice(0, 4000)));
}

const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const rounded = (value) => `${Number.isInteger(value) ? value : Number(value.toPrecision(6))}`;

function cell(value) {
  if (value == null) return "";
  if (typeof value === "number") return rounded(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

function table(rows, headed = true) {
  const names = [...new Set(rows.flatMap(Object.keys))].filter((n) => rows.some((r) => r[n] != null));
  const lines = rows.slice(0, 100).map((row) => names.map((name) => element("td", cell(row[name]))));
  if (headed) lines.unshift(names.map((name) => element("th", name.replaceAll("_", " "))));
  const made = element("table");
  for (const cells of lines) {
    const line = element("tr");
    line.append(...cells);
    made.append(line);
  }
  const frame = element("div", "", "inner");
  frame.append(made);
  return frame;
}

// A record: its curves drawn, the rest as a table of names and values.
function fields(card, value) {
  const rest = [], nested = [];
  for (const [name, part] of Object.entries(value)) {
    if (numeric(part) && part.length > 4 && name !== "times") {
      card.append(element("p", name, "shape"), shape(part).length === 1 ? curve(part) : strip(part));
    } else if (part !== null && (!numeric(part) || part.length <= 4)) {
      if (Array.isArray(part) && part.length && part.every(isRecord)) nested.push([name, part]);
      else rest.push({ name: name.replaceAll("_", " "), value: part });
    }
  }
  if (rest.length) card.append(table(rest, false));
  for (const [name, rows] of nested) card.append(element("p", name, "shape"), table(rows));
}

function curve(values) {
  const [low, high] = bounds(values);
  const step = Math.max(1, Math.ceil(values.length / 600));
  const points = [];
  for (let i = 0; i < values.length; i += step) {
    points.push(`${(i / Math.max(1, values.length - 1)) * 100},${38 - ((values[i] - low) / (high - low || 1)) * 36}`);
  }
  if (points.length === 1) points.push(points[0].replace(/^[^,]*/, "100"));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}

// Time runs right, the other dimensions are flattened downward.
function strip(rows) {
  const flat = rows.map((row) => row.flat(Infinity));
  const [low, high] = bounds(flat.flat());
  const canvas = document.createElement("canvas");
  canvas.width = flat.length;
  canvas.height = Math.min(256, flat[0].length || 1);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let x = 0; x < canvas.width; x++) {
    for (let y = 0; y < canvas.height; y++) {
      const value = flat[x][Math.floor((y * flat[x].length) / canvas.height)] ?? low;
      const t = (value - low) / (high - low || 1);
      pixels.data.set([40 + 215 * t, 30 + 160 * t * t, 60 * (1 - t) + 30, 255], (y * canvas.width + x) * 4);
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function bounds(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}
