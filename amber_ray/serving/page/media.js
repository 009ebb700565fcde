// Plays an asset. What the browser can play it asks for itself, by ranges; of anything else it is given small
// pieces that the feature `proxy` makes of the film as they are needed (Media Source Extensions).
//
//   source ─→ direct ──→ the browser can ─────────→ plays the media's own bytes
//                └─→ it can't, or breaks off ─→ Pieces: which pieces are there ─→ ask for those ahead of the
//                                               playhead, the one under it first ─→ append ─→ drop what is behind
//
// `source` resolves once there is something to show, and rejects with an error that says why there is not.

const AHEAD = 24; // seconds that are kept ready before the playhead
const BEHIND = 30; // seconds behind it that are kept
const TOGETHER = 2; // pieces that are computed at a time: the one that is wanted now, and one more
const READY_MS = 8000; // how long the browser may take to find out whether it can play the media itself

// Codecs by FFmpeg's names, as browsers name them; what is not here no browser plays.
const VIDEO = { h264: "avc1.640028", hevc: "hvc1.2.4.L150.B0", vp8: "vp8", vp9: "vp09.00.40.08", av1: "av01.0.08M.08", theora: "theora" };
const SOUND = { aac: "mp4a.40.2", mp3: "mp3", opus: "opus", vorbis: "vorbis", flac: "flac" };
const KINDS = { "video/x-matroska": "video/webm", "video/quicktime": "video/mp4", "audio/x-matroska": "audio/webm" };
const DEEP = /^yuv\w*p?(9|10|12|14|16)|^yuv(422|440|444)/; // which most browsers decode no H.264 of

export async function source(media, asset, api) {
  const player = new Player(media, asset, api);
  try {
    await player.open();
  } catch (error) {
    player.close();
    throw error;
  }
  return player;
}

// Whether the browser says that it may play an asset's own bytes; without streams it has to be tried.
export function playable(media, { media_type: type = "", streams = [] }) {
  if (!type) return true;
  const shown = streams.filter((one) => one.kind === "video" || one.kind === "audio");
  const codecs = shown.map((one) => (one.kind === "video" ? VIDEO : SOUND)[one.codec]);
  if (type === "audio/wav" && shown.every((one) => one.codec?.startsWith("pcm_"))) return media.canPlayType(type) !== "";
  if (type === "audio/mpeg" || type === "audio/flac") return media.canPlayType(type) !== "";
  if (codecs.includes(undefined) || shown.some((one) => one.mirrored)) return false;
  // A browser plays the first track of each kind.
  const first = (kind) => shown.find((one) => one.kind === kind);
  if (shown.some((one) => one.chosen && one !== first(one.kind))) return false;
  if (shown.some((one) => one.codec === "h264" && DEEP.test(one.pixel_format ?? ""))) return false;
  const kind = KINDS[type] ?? type;
  return media.canPlayType(codecs.length ? `${kind}; codecs="${codecs.join(",")}"` : kind) !== "";
}

// Whether a browser shows pictures in the shape that they are meant to have: not all heed every turn, crop and
// pixel shape.
export function shaped(media, { streams = [] }) {
  const shown = streams.find((one) => one.kind === "video");
  if (!shown) return true;
  const [left, top, right, bottom] = shown.crop ?? [0, 0, 0, 0];
  const [over, under] = (shown.pixel_aspect ?? "1/1").split("/").map(Number);
  const wide = (shown.width - left - right) * over;
  const high = (shown.height - top - bottom) * (under || 1);
  const wanted = (shown.rotation ?? 0) % 180 ? high / wide : wide / high;
  return Math.abs(media.videoWidth / media.videoHeight / wanted - 1) < 0.03;
}

class Player {
  constructor(media, asset, api) {
    this.media = media;
    this.asset = asset;
    this.api = api;
    this.way = "";
    this.closed = false;
    this.pieces = null;
    this.until = Infinity;
    this.failed = () => this.broken();
    media.addEventListener("error", this.failed);
  }

  async open() {
    if (this.asset.kind === "image" || this.asset.media_type?.startsWith("image/")) throw new Error("a still has nothing to play");
    if (playable(this.media, this.asset) && (await this.direct())) return;
    await this.proxy();
  }

  // Plays the media's own bytes; false if the browser can't after all.
  async direct(at = 0) {
    const { media, asset, api } = this;
    const { url, seconds } = await api.post(`v1/assets/${asset.id}/media/link`, {});
    if (this.closed) return true;
    this.until = seconds === null ? Infinity : Date.now() + 1000 * seconds;
    media.preload = "auto";
    // The link's own path begins at the server's root; the page may be mounted elsewhere.
    media.src = `v1/assets/${asset.id}/media${new URL(url, location.href).search}`;
    const shown = await happens(media, "loadeddata", "error");
    if (!shown || !shaped(media, asset)) return false;
    if (at) media.currentTime = at;
    this.way = "direct";
    return true;
  }

  async proxy(at = 0) {
    this.way = "proxy";
    this.pieces = new Pieces(this.media, this.asset, this.api);
    await this.pieces.open(at);
  }

  // The browser gave up: a link may have ended, else it could not go on with the media's own bytes.
  async broken() {
    if (this.closed || this.way !== "direct") return;
    const { media } = this;
    const at = media.currentTime;
    const playing = !media.paused;
    this.way = "";
    try {
      const again = Date.now() >= this.until || media.error?.code === MediaError.MEDIA_ERR_NETWORK;
      if (!(again && (await this.direct(at)))) await this.proxy(at);
      if (playing) await media.play();
    } catch (error) {
      this.tell(error);
    }
  }

  tell(error) {
    if (!this.closed) this.media.dispatchEvent(new CustomEvent("unplayable", { detail: error, bubbles: true }));
  }

  close() {
    this.closed = true;
    this.media.removeEventListener("error", this.failed);
    this.pieces?.close();
    this.media.removeAttribute("src");
    this.media.load();
  }
}

// The pieces of an asset's proxy, in a source buffer as far as they are wanted.
class Pieces {
  constructor(media, asset, api) {
    this.media = media;
    this.asset = asset;
    this.api = api;
    this.parts = [];
    this.asked = new Map(); // by number, what withdraws it
    this.errors = new Map(); // by number, why there is none
    this.line = Promise.resolve(); // the source buffer takes one thing at a time
    this.closed = false;
    this.leaving = new AbortController();
    this.look = () => this.fill();
  }

  async open(at) {
    const { media } = this;
    if (!globalThis.MediaSource) throw new Error("this browser has no Media Source Extensions");
    this.codec = this.chosen();
    const { signal } = this.leaving;
    const known = await this.value(await this.ready("proxy_parts", null, signal), "application/json", signal);
    this.parts = await known.json();
    if (!this.parts.length) throw new Error("a still has nothing to play");
    if (this.closed) return;
    this.source = new MediaSource();
    this.address = URL.createObjectURL(this.source);
    const opened = happens(this.source, "sourceopen", "sourceclose");
    media.src = this.address;
    if (!(await opened)) throw new Error("the browser opens no media source");
    this.source.duration = this.parts.at(-1).end;
    const { piece, number } = await this.beginning(this.number(at));
    if (this.closed) return;
    this.buffer = this.source.addSourceBuffer(typeOf(piece));
    const shown = happens(media, "loadeddata", "error");
    await this.append(piece);
    const from = Math.max(at, this.parts[number].start);
    if (from) media.currentTime = from;
    for (const name of ["timeupdate", "seeking", "waiting"]) media.addEventListener(name, this.look);
    this.fill();
    if (!(await shown) && !this.closed) throw new Error(media.error?.message || "the browser can't play what was made of it");
  }

  // The first piece from a number on that can be made, of three.
  async beginning(first) {
    for (let number = first; number < Math.min(first + 3, this.parts.length); number++) {
      try {
        return { piece: await this.piece(number, this.leaving.signal), number };
      } catch (error) {
        if (this.closed) throw error;
        this.errors.set(number, error);
      }
    }
    throw this.errors.get(first);
  }

  // H.264 if the browser plays it, else VP9, which any does.
  chosen() {
    for (const [codec, type] of [["h264", 'video/mp4; codecs="avc1.4d401e,mp4a.40.2"'], ["vp9", 'video/mp4; codecs="vp09.00.30.08,opus"']]) {
      if (MediaSource.isTypeSupported(type)) return codec;
    }
    throw new Error("this browser plays neither H.264 nor VP9 by Media Source Extensions");
  }

  number(time) {
    const after = this.parts.findIndex((part) => part.end > time);
    return after < 0 ? this.parts.length - 1 : after;
  }

  // Whether all of a piece is in the buffer; its sound may begin a moment after it, and end before.
  there(number) {
    const { start, end } = this.parts[number];
    const { buffered } = this.buffer;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= start + 0.1 && buffered.end(i) >= end - 0.1) return true;
    }
    return false;
  }

  // Asks for what is wanted soonest, and withdraws what is not wanted any more.
  fill() {
    if (this.closed || !this.buffer) return;
    const { media, parts, asked, errors } = this;
    const now = media.currentTime;
    const first = this.number(now);
    const wanted = (number) => number >= first && parts[number] && parts[number].start < now + AHEAD;
    for (const [number, leaving] of asked) if (!wanted(number)) leaving.abort();
    this.pass(first);
    for (let number = first; wanted(number) && asked.size < TOGETHER; number++) {
      if (!asked.has(number) && !errors.has(number) && !this.there(number)) this.fetch(number);
    }
    if (!asked.size && this.there(parts.length - 1)) this.end();
  }

  // Where the playhead stands on a piece that can't be made, that is said; while it plays it goes on behind.
  pass(number) {
    const error = this.errors.get(number);
    if (!error || this.there(number)) return;
    this.tell(error);
    if (!this.media.paused && this.parts[number + 1]) this.media.currentTime = this.parts[number].end;
  }

  async fetch(number) {
    const leaving = new AbortController();
    this.asked.set(number, leaving);
    try {
      await this.append(await this.piece(number, leaving.signal));
    } catch (error) {
      if (!leaving.signal.aborted) this.errors.set(number, error);
    }
    if (this.asked.get(number) === leaving) this.asked.delete(number);
    this.fill();
  }

  async piece(number, signal) {
    const { start, end } = this.parts[number];
    const middle = (start + end) / 2; // a range means each piece that it touches
    const key = await this.ready("proxy", [middle, Math.min(end, middle + 0.001)], signal);
    return new Uint8Array(await (await this.value(key, "video/mp4", signal)).arrayBuffer());
  }

  // The key of a value, when it is there.
  async ready(feature, range, signal) {
    const asked = { features: [feature], assets: [{ id: this.asset.id }] };
    if (range) asked.range = range;
    if (feature === "proxy" && this.codec !== "h264") asked.params = { "proxy.codec": this.codec };
    const headers = { "Content-Type": "application/json", Prefer: "wait=30" };
    const ask = { method: "POST", body: JSON.stringify(asked), headers, signal };
    let view = await this.api.json("v1/compute", ask);
    while (view.state === "running") view = await this.api.json(`v1/requests/${view.id}`, { headers: { Prefer: "wait=30" }, signal });
    const [result] = view.results ?? [];
    if (result?.state !== "ready" || !result.key) throw new Error(result?.error?.message ?? view.failed_assets?.[0]?.error?.message ?? "nothing came of it");
    return result.key;
  }

  value(key, type, signal) {
    return this.api.call(`v1/values/${key}`, { headers: { Accept: type }, signal });
  }

  append(piece) {
    return this.inLine(async () => {
      await this.drop(this.media.currentTime - BEHIND);
      try {
        await this.change(() => this.buffer.appendBuffer(piece));
      } catch (error) {
        if (error.name !== "QuotaExceededError") throw error;
        await this.drop(this.media.currentTime - 1);
        const beyond = this.media.currentTime + AHEAD + 10;
        await this.change(() => this.buffer.remove(beyond, Infinity));
        await this.change(() => this.buffer.appendBuffer(piece));
      }
    });
  }

  async drop(before) {
    const { buffered } = this.buffer;
    if (buffered.length && before > buffered.start(0)) await this.change(() => this.buffer.remove(0, before));
  }

  // One after the other: a source buffer that is busy refuses.
  inLine(work) {
    const done = this.line.then(() => (this.closed ? undefined : work()));
    this.line = done.catch(() => {});
    return done;
  }

  async change(begin) {
    const done = happens(this.buffer, "updateend", "abort");
    begin();
    await done;
    if (this.media.error) throw new Error(this.media.error.message || "the browser can't play what was made of it");
  }

  end() {
    this.inLine(async () => {
      if (this.source.readyState === "open" && !this.buffer.updating) this.source.endOfStream();
    });
  }

  tell(error) {
    if (this.told === error) return;
    this.told = error;
    this.media.dispatchEvent(new CustomEvent("unplayable", { detail: error, bubbles: true }));
  }

  close() {
    this.closed = true;
    this.leaving.abort();
    for (const leaving of this.asked.values()) leaving.abort();
    for (const name of ["timeupdate", "seeking", "waiting"]) this.media.removeEventListener(name, this.look);
    if (this.address) URL.revokeObjectURL(this.address);
  }
}

// True once the first of two events happens, false for the second, or for none in time.
function happens(target, good, bad) {
  return new Promise((resolve) => {
    const end = (found) => () => {
      clearTimeout(timer);
      target.removeEventListener(good, yes);
      target.removeEventListener(bad, no);
      resolve(found);
    };
    const yes = end(true);
    const no = end(false);
    const timer = setTimeout(no, READY_MS);
    target.addEventListener(good, yes);
    target.addEventListener(bad, no);
  });
}

// What a piece is, as its initialisation says: the codecs of its tracks.
export function typeOf(piece) {
  const head = new TextDecoder("latin1").decode(piece.subarray(0, 4096));
  const hex = (at, count) => [...piece.subarray(at, at + count)].map((one) => one.toString(16).padStart(2, "0")).join("");
  const codecs = [];
  const h264 = head.indexOf("avcC");
  const vp9 = head.indexOf("vpcC");
  const two = (number) => String(number).padStart(2, "0");
  if (h264 > 0) codecs.push(`avc1.${hex(h264 + 5, 3)}`);
  if (vp9 > 0) codecs.push(`vp09.${two(piece[vp9 + 8])}.${two(piece[vp9 + 9])}.${two(piece[vp9 + 10] >> 4)}`);
  if (head.includes("mp4a")) codecs.push("mp4a.40.2");
  if (head.includes("dOps")) codecs.push("opus");
  return `${h264 > 0 || vp9 > 0 ? "video" : "audio"}/mp4; codecs="${codecs.join(",")}"`;
}
