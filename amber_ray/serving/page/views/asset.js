// One asset: a player, under it one axis of time, and a track for each feature chosen.
//
// What one sees is in the address: `#/assets/ID?t=12.5&tracks=shots,brightness?frames.fps=4&from=0&to=60`. Choosing tracks
// is a step that Back undoes; time and zoom are told to the address as they change.

import { h } from "../dom.js";
import { source } from "../media.js";
import { Player } from "../player.js";
import { Still } from "../still.js";
import { Timeline } from "../timeline.js";
import { boxesAt, contained, drawBoxes } from "../tracks/boxes.js";
import { draw, heightOf } from "../tracks/drawing.js";
import { Memory, Track, parse, write } from "../tracks/loading.js";
import { Panel } from "../tracks/panel.js";
import { clock } from "../words.js";

const HELD = 40 * 1024 * 1024; // bytes of values that a view holds
const TOLD = 300; // ms after the last change until the address is told
const FIRST = ["shot_picture", "shots", "brightness", "faces", "speech", "text", "transcript", "spectrogram", "motion", "sound_events"];
const CHOSEN = 4; // tracks of a view that nobody has chosen any for
const FRAME = 1 / 25; // seconds of a picture where nothing says how long it is

export function open(root, address, context) {
  const view = new View(root, address, context);
  return { ready: view.start(), update: (to) => view.update(to), close: () => view.close() };
}

class View {
  constructor(root, address, context) {
    Object.assign(this, { root, address, context, id: address.path[1], tracks: [] });
    this.memory = new Memory(HELD);
    this.off = new AbortController();
    root.append(h("h1", {}, "Asset"), h("p", { class: "faint" }, "Looking it up."));
  }

  async start() {
    const { api } = this.context;
    const [features, asset] = await Promise.all([this.context.features(), api.json(`v1/assets/${this.id}`)]);
    if (this.closed) return;
    this.features = features;
    this.asset = asset;
    this.stream = asset.streams.find((one) => one.kind === "video" && one.chosen !== false) ?? asset.streams.find((one) => one.kind === "video");
    this.kind = asset.media_type.split("/")[0];
    this.duration = asset.duration || 1;
    this.context.title(asset.uri.split("/").pop());
    this.build();
    this.update(this.address, true);
    this.play();
    if (!this.address.query.get("tracks")) this.choose();
    api.json("v1/versions").then((known) => this.offer(known.versions), () => this.offer([]));
  }

  // --- what there is to see

  build() {
    const { asset } = this;
    const still = this.kind === "image";
    this.picture = h(still ? "div" : this.kind === "audio" ? "audio" : "video", { class: "media", playsinline: true, preload: "auto" });
    this.overlay = h("canvas", { class: "overlay", "aria-hidden": "true" });
    this.message = h("p", { class: "message", role: "status", hidden: true });
    this.frame = h("div", { class: `frame ${this.kind}`, tabindex: still ? 0 : null, role: still ? "group" : null, "aria-label": still ? "picture, zoomed by + and -" : null },
      this.picture, this.overlay, this.message);
    this.picture.addEventListener("unplayable", ({ detail }) => this.unplayable(detail));
    if (this.kind === "video") this.shape(this.stream?.width, this.stream?.height, this.stream?.rotation);
    this.clock = h("span", { class: "clock" });
    this.button = h("button", { type: "button", class: "play", onclick: () => this.player.toggle() }, "Play");
    this.seen = h("p", { class: "unseen", "aria-live": "polite" });
    this.controls = h("div", { class: "controls", hidden: still },
      this.button,
      this.action("‹", "one picture back", () => this.player.step(-1)),
      this.action("›", "one picture on", () => this.player.step(1)),
      this.clock,
      h("span", { class: "away" }, this.mute(), this.kind === "video" && this.action("whole screen", "whole screen", () => this.frame.requestFullscreen?.())));
    const side = h("aside", { class: "panel from", "aria-label": "Where it is from" });
    this.ruler = h("canvas", { class: "ruler", "aria-hidden": "true" });
    this.head = h("div", { class: "playhead" });
    this.list = h("ul", { class: "tracks", "aria-label": "Tracks" });
    this.slider = h("div", {
      class: "lane", role: "slider", tabindex: 0, "aria-label": "time", "aria-valuemin": 0, "aria-valuemax": this.duration.toFixed(2),
    }, this.ruler);
    this.axis = h("div", { class: "axis" },
      h("div", { class: "line", hidden: still }, h("div", { class: "named zooms" },
        this.action("−", "zoom out", () => this.timeline.zoom(2)),
        this.action("+", "zoom in", () => this.timeline.zoom(0.5)),
        this.action("all", "show all of it", () => this.timeline.show(0, this.duration))), this.slider),
      this.list, this.head);
    this.root.replaceChildren(
      h("div", { class: "titled" }, h("h1", {}, asset.uri.split("/").pop()), h("p", { class: "faint", title: asset.uri }, this.facts())),
      h("div", { class: "stage" }, h("div", { class: "watch" }, this.frame, this.controls), side),
      h("section", { class: "panel", "aria-label": "Tracks over time" }, this.axis, this.form(), this.seen),
      h("p", { class: "faint keys" }, still ? "Wheel, + and − zoom; dragging moves; 0 shows all."
        : "Space plays; J K L: backward, stop, forward; ← → a picture, with Shift a second; Home, End; + − zoom; wheel zooms, dragging moves; Enter on a track tells where its value is from."));
    this.panel = new Panel(side, this.context.api);
    this.timeline = new Timeline(this.axis, this.ruler, this.head, {
      duration: this.duration,
      onSeek: (time) => this.player.seek(time),
      onView: () => this.looked(),
      onFrame: () => this.memory.turn++,
      onClick: (node, time) => this.clicked(node, time),
    });
    this.player = new Player(still ? null : this.picture, {
      duration: still ? 0 : this.duration,
      frame: this.pictureSeconds(),
      onTime: (time) => this.now(time),
      onState: () => this.playing(),
    });
    if (still) this.still = new Still(this.frame, { onPlace: () => this.boxes() });
    const on = (node, name, heard, options) => node.addEventListener(name, heard, { signal: this.off.signal, ...options });
    on(document, "keydown", (event) => this.key(event));
    on(this.picture, "loadedmetadata", () => {
      this.shape(this.picture.videoWidth, this.picture.videoHeight);
      this.boxes();
    });
    this.sizes = new ResizeObserver(() => this.boxes());
    this.sizes.observe(this.frame);
    this.now(0);
  }

  // The frame has the picture's shape, before there is a picture if that is known.
  shape(width, height, rotation = 0) {
    if (!width || !height) return;
    this.frame.style.aspectRatio = rotation % 180 ? `${height} / ${width}` : `${width} / ${height}`;
  }

  action(text, label, act) {
    return h("button", { type: "button", class: "quiet small", "aria-label": label, title: label, onclick: act }, text);
  }

  mute() {
    if (this.kind === "image") return null;
    const button = h("button", { type: "button", class: "quiet small", "aria-pressed": "false" }, "mute");
    button.addEventListener("click", () => {
      this.picture.muted = !this.picture.muted;
      button.setAttribute("aria-pressed", String(this.picture.muted));
    });
    return button;
  }

  facts() {
    const { asset, stream } = this;
    const size = asset.bytes < 1e6 ? `${Math.ceil(asset.bytes / 1000)} KB` : `${(asset.bytes / 1e6).toFixed(1)} MB`;
    return [asset.media_type, asset.duration && clock(asset.duration, 0.1), stream?.width && `${stream.width} × ${stream.height}`,
      ...asset.streams.filter((one) => one.codec).map((one) => one.codec), size].filter(Boolean).join(" · ");
  }

  pictureSeconds() {
    const [over, under = "1"] = String(this.stream?.frame_rate ?? "").split("/");
    const rate = Number(over) / Number(under);
    return rate > 0 && rate < 1000 ? 1 / rate : FRAME;
  }

  // The form that adds a track, of another feature or of the same one with other parameters.
  form() {
    this.names = h("datalist", { id: "track-names" });
    this.name = h("input", { list: "track-names", required: true, spellcheck: "false", autocomplete: "off", placeholder: "brightness" });
    this.params = h("input", { spellcheck: "false", autocomplete: "off", placeholder: "frames.fps=4" });
    this.wrong = h("p", { class: "error", role: "alert", hidden: true });
    return h("form", { class: "add", onsubmit: (event) => this.added(event) },
      h("label", {}, "Feature", this.name), h("label", {}, "Parameters", this.params), h("button", {}, "Add track"), this.names, this.wrong);
  }

  offer(versions) {
    if (this.closed) return;
    const known = [...this.features.values()].filter((one) => one.per !== "collection");
    const older = versions.filter((one) => this.features.get(one.feature)?.version !== one.version && this.features.get(one.feature)?.per !== "collection");
    this.names.replaceChildren(...known.map((one) => h("option", { value: one.name }, one.doc.split("\n")[0])),
      ...older.map((one) => h("option", { value: `${one.feature}@${one.version}` }, `an older version, ${one.rows} values`)));
  }

  added(event) {
    event.preventDefault();
    this.wrong.hidden = true;
    try {
      const name = this.name.value.trim();
      if (!this.features.has(name.split("@")[0]) && !name.includes("@")) throw new Error(`there is no feature ${name}`);
      const params = {};
      for (const pair of this.params.value.split(/[\s&]+/).filter(Boolean)) {
        const [key, ...value] = pair.split("=");
        if (!value.length) throw new Error(`write a parameter as name=value, not ${pair}`);
        params[key] = value.join("=");
      }
      const text = write(name, parse(`${name}?${new URLSearchParams(params)}`).params);
      const after = this.tracks.findLastIndex((one) => one.feature === name.split("@")[0]);
      const texts = this.tracks.map((one) => one.text);
      if (texts.includes(text)) throw new Error(`${text} is there already`);
      texts.splice(after < 0 ? texts.length : after + 1, 0, text);
      this.go(texts);
      this.params.value = "";
    } catch (error) {
      this.wrong.hidden = false;
      this.wrong.textContent = error.message;
    }
  }

  compare(track) {
    this.name.value = track.name;
    const own = Object.entries(track.info?.params ?? {}).map(([name, one]) => `${name}=${track.params[`${track.feature}.${name}`] ?? one.default}`);
    this.params.value = track.text.includes("?") ? decodeURIComponent(track.text.split("?")[1]).replaceAll("&", " ") : own.join(" ");
    this.params.focus();
    this.params.select();
  }

  // --- the address

  update(address, first = false) {
    if (!this.timeline) return;
    this.address = address;
    const { query } = address;
    const given = query.get("tracks");
    const texts = given ? given.split(",").filter(Boolean) : first ? [] : this.tracks.map((one) => one.text);
    this.lay(given === null && !first ? [] : texts);
    const number = (name, usual) => (query.has(name) && Number.isFinite(Number(query.get(name))) ? Number(query.get(name)) : usual);
    this.timeline.show(number("from", 0), number("to", this.duration));
    const time = number("t", 0);
    if (Math.abs(time - this.player.time) > 0.01) this.player.seek(time);
    this.want();
  }

  query(texts = this.tracks.map((one) => one.text)) {
    const { from, to } = this.timeline, round = (seconds) => String(Number(seconds.toFixed(3)));
    const all = from <= 0 && to >= this.duration - 1e-6;
    return {
      ...(this.player.time > 0 && { t: round(this.player.time) }),
      ...(texts.length && { tracks: texts.join(",") }),
      ...(!all && { from: round(from), to: round(to) }),
    };
  }

  go(texts) {
    clearTimeout(this.telling);
    this.telling = null;
    this.context.go(["assets", this.id], this.query(texts));
  }

  tell() {
    if (this.telling || this.closed) return;
    this.telling = setTimeout(() => {
      this.telling = null;
      if (!this.closed && !this.player.playing) this.context.go(["assets", this.id], this.query(), { replace: true });
    }, TOLD);
  }

  // Tracks that nobody chose: some of what is known.
  async choose() {
    const page = await this.context.api.json(`v1/assets/${this.id}/values?limit=1000`);
    if (this.closed || this.tracks.length) return;
    const known = new Set(page.values.filter((one) => one.per !== "collection").map((one) => one.feature));
    const heard = this.kind === "audio" ? ["waveform"] : [];
    const names = [...heard, ...FIRST.filter((name) => known.has(name)), ...known].filter((name) => this.features.has(name));
    this.lay([...new Set(names)].slice(0, CHOSEN));
    for (const track of this.tracks) track.shows = heard.includes(track.feature) && !this.memory.onlyReads; // what a sound looks like is not asked for
    this.want();
    if (this.tracks.length) this.tell();
  }

  // --- tracks

  lay(texts) {
    const before = new Map(this.tracks.map((one) => [one.text, one]));
    const wanted = [...new Set(texts)];
    for (const [text, track] of before) if (!wanted.includes(text)) this.take(track);
    this.tracks = wanted.map((text) => before.get(text) ?? this.track(text));
    const rows = this.tracks.map((one) => one.row);
    if (rows.some((row, i) => this.list.children[i] !== row)) this.list.replaceChildren(...rows);
    for (const track of this.tracks) if (!before.has(track.text)) this.timeline.add(track.lane);
    this.timeline.measure();
    this.boxes();
  }

  track(text) {
    const { context, asset, memory, features } = this;
    const track = new Track(text, { asset, features, api: context.api, memory, say: context.say, changed: (one) => this.changed(one) });
    const canvas = h("canvas", { "aria-hidden": "true" });
    track.lane = {
      canvas,
      draw: (drawn, seen, colours) => {
        if (draw(track, drawn, seen, colours)) this.timeline.draw(track.lane);
      },
    };
    track.status = h("p", { class: "status" });
    track.live = h("span", { class: "unseen", "aria-live": "polite" });
    track.fill = h("div", { class: "fill" });
    track.bar = h("div", { class: "bar", hidden: true }, track.fill);
    track.problem = h("p", { class: "error", hidden: true });
    track.computes = h("button", { type: "button", class: "small", hidden: true, onclick: () => track.compute(this.timeline.from, this.timeline.to) }, "Compute");
    track.cancels = h("button", { type: "button", class: "quiet small", hidden: true, onclick: () => track.cancel() }, "Cancel");
    const slot = h("div", { class: "lane" }, canvas);
    this.timeline.listen(canvas);
    track.row = h("li", { class: "line track", tabindex: 0, "aria-label": text, onkeydown: (event) => this.rowKey(event, track) },
      h("div", { class: "named" },
        h("div", { class: "called" }, h("b", {}, track.name), Object.entries(track.params).map(([name, value]) => h("code", {}, ` ${name}=${value}`))),
        track.status, track.bar,
        h("div", { class: "acts" }, track.computes, track.cancels,
          this.action("±", `add ${text} with other parameters`, () => this.compare(track)),
          this.action("why", `why ${text} is there, and where it is from`, () => this.panel.show(track, this.player.time)),
          this.action("×", `remove ${text}`, () => this.go(this.tracks.filter((one) => one !== track).map((one) => one.text)))),
        track.live, track.problem),
      slot);
    return track;
  }

  take(track) {
    this.timeline.remove(track.lane);
    track.close();
    track.row.remove();
  }

  rowKey(event, track) {
    if (event.target !== track.row) return;
    if (event.key === "Enter") this.panel.show(track, this.player.time);
    else if (event.key === "Delete") this.go(this.tracks.filter((one) => one !== track).map((one) => one.text));
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const next = event.key === "ArrowDown" ? track.row.nextElementSibling : track.row.previousElementSibling;
      next?.focus();
    }
  }

  // A track has more to show, or to say.
  changed(track) {
    if (this.closed || !track.row) return;
    track.waits ??= requestAnimationFrame(() => {
      track.waits = null;
      if (!this.closed) this.say(track);
    });
  }

  say(track) {
    const { from, to } = this.timeline;
    const { ready, failed, missing } = track.counts(from, to);
    const { running } = track;
    const words = running ? (running.total ? `${running.done} of ${running.total} steps` : "asking")
      : [ready && `${ready} known`, failed && `${failed} failed`, missing && `${missing} not computed`, track.ended].filter(Boolean).join(", ");
    if (track.status.textContent !== words) track.status.textContent = words;
    track.bar.hidden = !running;
    track.fill.style.width = running?.total ? `${(100 * running.done) / running.total}%` : "0%";
    track.computes.hidden = this.memory.onlyReads || Boolean(running) || !missing && !failed;
    track.cancels.hidden = !running;
    if (track.shows && missing && !running) {
      track.shows = false;
      track.compute(from, to);
    }
    const said = running ? `${track.text}: computing` : track.ended ? `${track.text}: ${track.ended}` : "";
    if (track.live.textContent !== said) track.live.textContent = said;
    track.problem.hidden = !track.error;
    track.problem.textContent = track.error?.message ?? "";
    const high = `${heightOf(track)}px`;
    if (track.lane.canvas.style.height !== high) track.lane.canvas.style.height = high;
    this.timeline.draw(track.lane);
    this.want();
    this.boxes();
  }

  // What is looked at is loaded, a moment after the last change.
  looked() {
    clearTimeout(this.wanting);
    this.wanting = setTimeout(() => {
      for (const track of this.tracks) this.say(track);
    }, 80);
    this.tell();
  }

  want() {
    const { from, to } = this.timeline;
    for (const track of this.tracks) track.want(from, to);
  }

  clicked(node, time) {
    const track = this.tracks.find((one) => one.lane.canvas === node);
    if (track) this.panel.show(track, time);
  }

  // --- time

  now(time) {
    this.clock.textContent = `${clock(time, 0.01)} / ${clock(this.duration, 0.1)}`;
    this.slider.setAttribute("aria-valuenow", time.toFixed(2));
    this.slider.setAttribute("aria-valuetext", clock(time, 0.1));
    this.timeline.now(time, this.player?.playing);
    this.boxes();
    if (this.player && !this.player.playing) this.tell();
  }

  playing() {
    const { playing } = this.player;
    this.button.textContent = playing ? "Pause" : "Play";
    if (!playing) this.tell();
  }

  async play() {
    try {
      if (this.kind === "image") await this.showStill();
      else this.media = await source(this.picture, this.asset, this.context.api);
      if (this.closed) this.media?.close();
      else this.player.began();
    } catch (error) {
      this.unplayable(error);
    }
  }

  unplayable(error) {
    this.message.hidden = false;
    this.message.textContent = `It can't be ${this.kind === "image" ? "shown" : "played"}: ${error.message}`;
  }

  // The image itself where the browser knows its format, else a large thumbnail of it.
  async showStill() {
    const { api } = this.context;
    const image = h("img", { alt: this.asset.uri.split("/").pop(), draggable: "false" });
    const load = async (blob) => {
      const url = URL.createObjectURL(blob);
      image.src = url;
      await image.decode().finally(() => URL.revokeObjectURL(url));
    };
    try {
      await load(await (await api.call(`v1/assets/${this.id}/media`)).blob());
    } catch {
      const asked = { features: ["thumbnail"], assets: [{ id: this.id }], params: { "thumbnail.size": 2048 } };
      const [result] = (await api.post("v1/compute", asked, { Prefer: "wait=30" })).results;
      if (result.state !== "ready") throw new Error(result.error?.message ?? "it takes longer than half a minute");
      await load(await (await api.call(`v1/values/${result.key}`, { headers: { Accept: "image/jpeg" } })).blob());
    }
    this.picture.append(image);
    this.image = image;
    this.boxes();
  }

  boxes() {
    if (this.closed || !this.player) return;
    const wide = this.frame.clientWidth, high = this.frame.clientHeight, { picture, image, still } = this;
    const natural = image ? [image.naturalWidth, image.naturalHeight] : [picture.videoWidth || this.stream?.width, picture.videoHeight || this.stream?.height];
    const place = contained(wide, high, natural[0] || 16, natural[1] || 9);
    if (still) {
      place.left = place.left * still.scale + still.x;
      place.top = place.top * still.scale + still.y;
      place.width *= still.scale;
      place.height *= still.scale;
    }
    const time = this.player.time;
    const tracks = this.tracks.filter((track) => boxesAt(track, time).length);
    const shown = `${[wide, high, ...Object.values(place)].map(Math.round)} ${tracks.map((one) => `${one.text} ${one.turn} ${one.at(time).part?.start}`)}`;
    if (shown === this.boxed) return;
    this.boxed = shown;
    const count = drawBoxes(this.overlay, place, tracks, time);
    this.overlay.dataset.boxes = count;
  }

  // --- keys

  key(event) {
    if (event.defaultPrevented || event.altKey || event.metaKey || (event.ctrlKey && !"+-".includes(event.key))) return;
    const { target } = event;
    if (target.closest("input, select, textarea, [contenteditable]")) return;
    if ((event.key === " " || event.key === "Enter") && target.closest("button, a, summary")) return;
    const act = this.still ? this.stillKeys()[event.key] : this.keys(event)[event.key];
    if (!act || event.ctrlKey) return;
    event.preventDefault();
    act();
  }

  keys({ shiftKey }) {
    const { player, timeline } = this;
    const aside = (pictures) => (shiftKey ? player.seek(player.time + pictures) : player.step(pictures));
    return {
      " ": () => player.toggle(),
      k: () => player.stop(),
      j: () => player.faster(-1),
      l: () => player.faster(1),
      ArrowLeft: () => aside(-1),
      ArrowRight: () => aside(1),
      Home: () => player.seek(0),
      End: () => player.seek(this.duration - this.pictureSeconds()),
      "+": () => timeline.zoom(0.5),
      "=": () => timeline.zoom(0.5),
      "-": () => timeline.zoom(2),
      0: () => timeline.show(0, this.duration),
    };
  }

  stillKeys() {
    const { still } = this, step = 60;
    const by = (x, y) => {
      still.x += x;
      still.y += y;
      still.put();
    };
    return {
      "+": () => still.zoom(1.5),
      "=": () => still.zoom(1.5),
      "-": () => still.zoom(1 / 1.5),
      0: () => still.reset(),
      ArrowLeft: () => by(step, 0),
      ArrowRight: () => by(-step, 0),
      ArrowUp: () => by(0, step),
      ArrowDown: () => by(0, -step),
    };
  }

  close() {
    this.closed = true;
    this.off.abort();
    clearTimeout(this.telling);
    clearTimeout(this.wanting);
    this.sizes?.disconnect();
    this.timeline?.close();
    this.player?.close();
    this.media?.close();
    for (const track of this.tracks) track.close();
  }
}
