// What is known of a feature over time, loaded for the part of time in view only.
//
// A Track never has anything computed by itself: it asks what compute would do (`POST /v1/explain`), reads what is there
// (`POST /v1/values`), and only `compute` asks for more, of which each unit appears as its event comes. What it holds is
// bounded by the Memory that it shares with the others: units that were not looked at for longest let go of their values.

import { rows } from "./arrow.js";
import { bounds } from "./drawing.js";
import { read, size } from "./values.js";

const WINDOW = 120; // seconds asked about at once
const RUN = 15; // windows in one question
const KEYS = 100; // values in one answer, at most
const FIRST = 4; // and of a track of which nobody knows how large its values are
const ANSWER = 8e6; // bytes of an answer, about
const VIEW = 40e6; // bytes of values that are loaded for one view of a track; for a longer time one has to zoom in
const GATHER = 60; // ms that keys wait for others, so that a hundred events are one question
const AGAIN = 2500; // ms until work of others is looked at again
const PIXELS = 4e6; // of pictures, four bytes each
const HERE = new Set(["hot", "kept", "cold"]);

// `feature@version?param=value&other.param=value`, as it stands in the address.
export function parse(text) {
  const [name, query = ""] = text.split("?");
  const [feature, version = ""] = name.split("@");
  const params = {};
  for (const [key, value] of new URLSearchParams(query)) {
    try {
      params[key.includes(".") ? key : `${feature}.${key}`] = JSON.parse(value);
    } catch {
      params[key.includes(".") ? key : `${feature}.${key}`] = value;
    }
  }
  return { text, name, feature, version, params };
}

export function write(name, params) {
  const [feature] = name.split("@");
  const given = Object.entries(params).map(([key, value]) => {
    const short = key.startsWith(`${feature}.`) ? key.slice(feature.length + 1) : key;
    return [short, typeof value === "string" ? value : JSON.stringify(value)];
  });
  return given.length ? `${name}?${new URLSearchParams(given)}` : name;
}

// How many bytes of values and of pictures made of them are held, by all tracks of a view.
export class Memory {
  constructor(most) {
    Object.assign(this, { most, held: 0, turn: 0, units: new Set(), drawn: new Map(), pixels: 0 });
  }

  // A part was drawn from a picture of so many pixels; those that were not for longest go.
  drew(part, pixels) {
    this.pixels += pixels - (this.drawn.get(part) ?? 0);
    this.drawn.delete(part);
    this.drawn.set(part, pixels);
    for (const old of this.drawn.keys()) {
      if (this.pixels <= PIXELS || old === part) return;
      this.erase(old);
    }
  }

  erase(part) {
    this.pixels -= this.drawn.get(part) ?? 0;
    this.drawn.delete(part);
    part.bitmap?.close?.();
    Object.assign(part, { bitmap: null, scaled: null, decoding: false });
  }

  took(unit) {
    unit.bytes = unit.parts.reduce((sum, part) => sum + size(part), 0);
    this.held += unit.bytes;
    this.units.add(unit);
    if (this.held <= this.most) return;
    const away = ({ track, start, end }) => end <= track.view[0] || start >= track.view[1];
    const idle = [...this.units].filter((one) => one !== unit && away(one)).sort((a, b) => a.seen - b.seen);
    for (const one of idle) {
      if (this.held <= this.most * 0.8) break;
      this.drop(one);
    }
  }

  drop(unit) {
    if (!this.units.delete(unit)) return;
    this.held -= unit.bytes;
    for (const part of unit.parts) this.erase(part);
    Object.assign(unit, { parts: null, bytes: 0 });
  }
}

export class Track {
  constructor(text, { asset, features, api, memory, changed, say }) {
    Object.assign(this, parse(text), { asset, features, api, memory, changed, say });
    this.info = features.get(this.feature);
    this.units = new Map(); // by key
    this.order = []; // by time
    this.asked = new Set(); // windows
    this.queue = new Map();
    this.stop = new AbortController();
    this.running = null; // {id, done, total}
    this.error = null;
    this.note = "";
    this.view = [0, asset.duration || 1];
    this.kind = null;
    this.low = Infinity;
    this.high = -Infinity;
    this.turn = 0; // changes with what there is to draw
  }

  get whole() {
    return !this.asset.duration || this.info?.per === "asset";
  }

  question(from, to) {
    const asked = { features: [this.name], assets: [{ id: this.asset.id }], params: this.params };
    return this.whole ? asked : { ...asked, range: [from, Math.min(to, this.asset.duration)] };
  }

  // Sees to it that what is known between two times is here, or comes.
  want(from, to) {
    if (this.closed) return;
    this.view = [from, to];
    if (this.tooMuch()) return;
    for (const unit of this.between(from, to)) if (unit.here && !unit.parts && !unit.failure) this.fetch(unit);
    if (this.whole) return this.ask("all", [0], 0, this.asset.duration || 1);
    const first = Math.floor(from / WINDOW), last = Math.floor(Math.max(from, Math.min(to, this.asset.duration) - 1e-6) / WINDOW);
    let run = [];
    for (let n = first; n <= last + 1; n++) {
      const open = n <= last && !this.asked.has(n);
      if (open) run.push(n);
      if (run.length && (!open || run.length === RUN)) {
        this.ask(run[0], run, run[0] * WINDOW, (run.at(-1) + 1) * WINDOW);
        run = [];
      }
    }
  }

  // Whether what is in view has more values than are loaded at once; then the track says so.
  tooMuch() {
    const most = this.whole || !this.rate ? Infinity : VIEW / this.rate, [from, to] = this.view;
    this.note = to - from > most ? `zoom in to ${most < 120 ? `${Math.floor(most)} seconds` : `${Math.floor(most / 60)} minutes`} to see all of it` : "";
    return Boolean(this.note);
  }

  async ask(name, windows, from, to) {
    if (this.asked.has(windows[0])) return;
    if (!this.info && !this.version) this.error ??= new Error(`there is no feature ${this.feature}`);
    for (const n of windows) this.asked.add(n);
    if (!this.info && !this.version) return this.touch();
    try {
      if (this.memory.onlyReads || !(await this.plan(windows, from, to))) await (this.list ??= this.listed());
      this.error = null;
    } catch (error) {
      if (this.closed) return;
      this.error = error; // asked again when the track is: a version that is gone stays so
      if (error.status === 401) this.say(error);
    }
    this.touch();
  }

  // Places what compute would do; false where the token may only read.
  async plan(windows, from, to) {
    let plan;
    try {
      plan = await this.api.post("v1/explain", this.question(from, to));
    } catch (error) {
      this.memory.onlyReads ||= error.status === 403;
      if (this.memory.onlyReads) return false;
      throw error;
    }
    let others = false;
    for (const step of this.closed ? [] : plan.steps.filter((one) => one.target)) {
      this.place(step, step.state);
      others ||= step.state === "running" || step.state === "queued";
    }
    if (others && !this.running) setTimeout(() => this.forget(windows), AGAIN);
    return true;
  }

  // Places all that is known of the asset by these parameters: what is left to a token that may not ask for plans.
  async listed() {
    const asked = { feature: this.feature, version: this.version || this.info.version, limit: 1000 };
    for (let cursor = ""; cursor !== null && !this.closed;) {
      const page = await this.api.json(`v1/assets/${this.asset.id}/values?${new URLSearchParams({ ...asked, ...(cursor && { cursor }) })}`);
      for (const one of page.values) if (this.meant(one.params)) this.place(one, "ready");
      cursor = page.cursor;
    }
  }

  // Whether a value's parameters are those asked for, all others being the usual ones.
  meant(params) {
    return Object.entries(params).every(([name, value]) => {
      const full = name.includes(".") ? name : `${this.feature}.${name}`, [feature, own] = full.split(".");
      const usual = this.version ? value : this.features.get(feature)?.params[own]?.default;
      return (this.params[full] ?? usual) === value;
    });
  }

  forget(windows) {
    for (const n of windows) this.asked.delete(n);
    this.touch();
  }

  // A unit as a plan or a result tells of it.
  place(told, state) {
    let unit = this.units.get(told.key);
    if (!unit) {
      const timed = this.asset.duration && told.unit?.start !== undefined;
      const { start, end } = timed ? told.unit : { start: 0, end: this.asset.duration || 1 };
      const per = told.unit?.index !== undefined ? "segment" : told.unit?.start !== undefined ? "window" : "asset";
      unit = { key: told.key, start, end, per, each: told.unit?.each, parts: null, bytes: 0, seen: 0, failure: null, track: this };
      this.units.set(told.key, unit);
      this.order.push(unit);
      this.sorted = false;
      if (unit.each) this.templates = true;
      else if (this.templates) this.expand();
    }
    unit.state = HERE.has(state) || state === "ready" ? "ready" : state;
    unit.here = unit.state === "ready" || unit.state === "failed";
    if (unit.here && !unit.parts && !unit.each) this.fetch(unit);
    return unit;
  }

  // The windows are known: what stood for each of them goes.
  expand() {
    for (const unit of this.order.filter((one) => one.each)) this.units.delete(unit.key);
    this.order = this.order.filter((one) => !one.each);
    this.templates = false;
  }

  between(from, to) {
    if (!this.sorted) this.order.sort((a, b) => a.start - b.start);
    this.sorted = true;
    return this.order.filter((unit) => unit.end > from && unit.start < to);
  }

  // --- values

  fetch(unit) {
    if (this.queue.has(unit.key)) return;
    this.queue.set(unit.key, unit);
    this.timer ??= setTimeout(() => this.flush(), GATHER);
  }

  async flush() {
    this.timer = null;
    if (this.reads) return; // one answer at a time: whoever reads takes what has come meanwhile
    this.reads = true;
    while (this.queue.size && !this.closed) {
      if (this.tooMuch()) this.queue.clear();
      const count = this.heavy ? Math.max(1, Math.min(KEYS, Math.floor(ANSWER / this.heavy))) : FIRST;
      const [from, to] = this.view, seen = (unit) => Number(unit.end > from && unit.start < to);
      await this.read([...this.queue.values()].sort((a, b) => seen(b) - seen(a) || a.start - b.start).slice(0, count));
    }
    this.reads = false;
  }

  async read(units) {
    if (!units.length) return;
    try {
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify({ keys: units.map((unit) => unit.key), mixed: true });
      const answer = await this.api.call("v1/values", { method: "POST", headers, body, signal: this.stop.signal });
      const bytes = await answer.arrayBuffer();
      this.heavy = bytes.byteLength / units.length;
      this.rate = bytes.byteLength / units.reduce((sum, unit) => sum + unit.end - unit.start, 0);
      for (const row of rows(bytes)) this.take(row);
    } catch (error) {
      if (!this.closed) this.error = error;
    }
    for (const unit of units) this.queue.delete(unit.key);
    this.touch();
  }

  take(row) {
    const unit = this.units.get(row.key);
    if (!unit || this.closed) return;
    if (row.status !== 200) {
      const gone = row.status === 404; // no longer there: as if it had never been
      if (gone) Object.assign(unit, { state: "missing", here: false });
      else Object.assign(unit, { state: "failed", failure: unit.failure ?? { message: row.message, step: row.feature } });
      return;
    }
    const json = this.info?.returns.type === "json";
    unit.failure = null;
    this.memory.drop(unit);
    unit.parts = read(json ? JSON.parse(row.value) : row.value, unit, this.feature);
    if (!this.asset.duration) for (const part of unit.parts) Object.assign(part, { start: 0, end: 1 });
    unit.seen = this.memory.turn;
    this.memory.took(unit);
    for (const part of unit.parts) {
      this.kind ??= part.kind === "text" ? null : part.kind;
      this.scale(part);
    }
  }

  scale(part) {
    let { low, high } = part;
    if (part.kind === "outline") {
      high = Math.max(...bounds(part.low, [], 0, part.low.length).map(Math.abs), bounds(part.high, [], 0, part.high.length)[1]);
      low = -high;
    }
    if (part.kind === "bar") [low, high] = [Math.min(0, part.number), part.number];
    for (const line of part.kind === "curve" ? part.lines : []) {
      for (const value of line.values) {
        if (value < this.low) this.low = value;
        if (value > this.high) this.high = value;
      }
    }
    if (low < this.low) this.low = low;
    if (high > this.high) this.high = high;
  }

  // --- computing

  async compute(from, to) {
    if (this.running) return;
    const mine = (this.running = { id: null, done: 0, total: 0, began: performance.now() });
    this.error = null;
    this.ended = "";
    this.touch();
    try {
      const view = await this.api.post("v1/compute", this.question(from, to), { Prefer: "wait=0" });
      Object.assign(mine, { id: view.id, ...view.progress });
      for (const result of view.results) this.result(result);
      if (mine.cancelled) await this.api.call(`v1/requests/${mine.id}`, { method: "DELETE" });
      let state = view.state;
      if (state === "running") state = await this.follow(mine);
      const seconds = ((performance.now() - mine.began) / 1000).toFixed(1);
      this.ended = state === "cancelled" ? "cancelled" : `${state} in ${seconds} s`;
    } catch (error) {
      if (!this.closed) this.error = error;
    }
    this.running = null;
    this.touch();
  }

  async follow(mine) {
    for await (const [name, data] of this.api.events(`v1/requests/${mine.id}/events`, this.stop.signal)) {
      if (this.closed) return "";
      if (name === "error") throw new Error(data.detail);
      if (name === "done") {
        for (const result of data.results) this.result(result);
        return data.state;
      }
      Object.assign(mine, { done: data.done, total: data.total });
      if (data.result) this.result(data.result);
      this.touch();
    }
    throw new Error("the server has ended the stream of events; compute again to go on");
  }

  result(result) {
    if (result.error && !result.key) throw new Error(result.error.message || result.error.title);
    const unit = this.place(result, result.state === "cancelled" ? "missing" : result.state);
    if (result.state === "ready") Object.assign(unit, { cached: result.cached, took: result.seconds });
    if (result.error) unit.failure = result.error;
    this.touch();
  }

  async cancel() {
    if (!this.running) return;
    this.running.cancelled = true;
    if (this.running.id) await this.api.call(`v1/requests/${this.running.id}`, { method: "DELETE" }).catch(this.say);
  }

  // --- the rest

  touch() {
    this.turn++;
    if (!this.closed) this.changed(this);
  }

  // Counts of units between two times by state, for words.
  counts(from, to) {
    const found = { ready: 0, failed: 0, missing: 0 };
    for (const unit of this.between(from, to)) found[unit.state in found ? unit.state : "missing"]++;
    return found;
  }

  at(time) {
    const here = (one) => one.start <= time && (time < one.end || (one.end >= this.asset.duration && time >= one.end));
    const unit = this.order.find(here);
    return { unit, part: unit?.parts?.find(here) };
  }

  close() {
    this.closed = true;
    this.stop.abort();
    clearTimeout(this.timer);
    for (const unit of this.order) this.memory.drop(unit);
    if (this.running?.id) this.cancel();
  }
}
