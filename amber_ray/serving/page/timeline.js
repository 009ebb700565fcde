// One axis of time for all that is drawn over it: zoomed and moved by wheel, drag and pinch, drawn once per picture.
//
// Whoever draws over it is a lane: {canvas, draw(context, view, colours)}. Nothing is drawn unless something has changed,
// and nothing of a lane that is scrolled out of sight. The playhead is a node of its own, so playing draws no lane again.

import { clock } from "./words.js";

const LEAST = 0.05; // seconds that the axis shows at most zoom
const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const APART = 84; // pixels between two ticks, at least
const STILL = 4; // pixels that a pointer may move and have clicked

export class Timeline {
  constructor(root, ruler, head, { duration, onSeek, onView, onFrame, onClick }) {
    Object.assign(this, { root, head, duration, onSeek, onView, onFrame, onClick });
    this.from = 0;
    this.to = duration;
    this.time = 0;
    this.lanes = new Set();
    this.dirty = new Set();
    this.pointers = new Map();
    this.frame = 0;
    this.seen = new IntersectionObserver((changes) => {
      for (const one of changes) {
        const lane = [...this.lanes].find((l) => l.canvas === one.target);
        if (lane) lane.hidden = !one.isIntersecting;
        if (lane && !lane.hidden) this.draw(lane);
      }
    });
    this.sizes = new ResizeObserver(() => this.measure());
    this.ruler = { canvas: ruler, draw: (context, view, colours) => ticks(context, view, colours) };
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => {
      this.colours = null;
      this.draw();
    };
    this.scheme.addEventListener("change", this.recolour);
    this.add(this.ruler);
    this.listen(ruler, (event, lane) => this.scrub(event, lane));
    this.measure();
  }

  add(lane) {
    this.lanes.add(lane);
    this.seen.observe(lane.canvas);
    this.sizes.observe(lane.canvas);
    this.draw(lane);
  }

  remove(lane) {
    this.lanes.delete(lane);
    this.dirty.delete(lane);
    this.seen.unobserve(lane.canvas);
    this.sizes.unobserve(lane.canvas);
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.closed = true;
    this.seen.disconnect();
    this.sizes.disconnect();
    this.scheme.removeEventListener("change", this.recolour);
  }

  // --- where

  get span() {
    return this.to - this.from;
  }

  x(time) {
    return ((time - this.from) / this.span) * this.width;
  }

  at(x) {
    return this.from + (x / this.width) * this.span;
  }

  show(from, to) {
    const span = Math.min(this.duration, Math.max(LEAST, to - from));
    const start = Math.min(Math.max(0, from), this.duration - span);
    if (start === this.from && start + span === this.to) return;
    this.from = start;
    this.to = start + span;
    this.draw();
    this.place();
    this.onView?.();
  }

  zoom(factor, around = this.time >= this.from && this.time <= this.to ? this.time : (this.from + this.to) / 2) {
    const span = Math.min(this.duration, Math.max(LEAST, this.span * factor));
    const share = (around - this.from) / this.span;
    this.show(around - share * span, around + (1 - share) * span);
  }

  move(seconds) {
    this.show(this.from + seconds, this.to + seconds);
  }

  // The time that is shown; `follow` brings it into view, a screen at a time.
  now(time, follow = false) {
    this.time = time;
    if (follow && !this.pointers.size && (time < this.from || time > this.to)) {
      const start = time < this.from ? time - 0.9 * this.span : time - 0.05 * this.span;
      this.show(start, start + this.span);
    }
    this.place();
  }

  place() {
    const x = this.x(this.time);
    this.head.hidden = this.width <= 1 || x < -1 || x > this.width + 1;
    this.head.style.transform = `translateX(${this.left + x}px)`;
  }

  measure() {
    const canvas = this.ruler.canvas.getBoundingClientRect(), around = this.root.getBoundingClientRect();
    this.left = canvas.left - around.left;
    this.width = Math.max(1, canvas.width);
    this.draw();
    this.place();
  }

  // --- drawing

  draw(lane) {
    if (lane) this.dirty.add(lane);
    else for (const one of this.lanes) this.dirty.add(one);
    if (!this.frame && !this.closed) this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = 0;
    this.onFrame?.();
    const waiting = [...this.dirty];
    this.dirty.clear();
    this.colours ??= colours(this.root);
    for (const lane of waiting) if (!lane.hidden) this.paintLane(lane);
  }

  paintLane(lane) {
    const { canvas } = lane, ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const { from, to } = this;
    lane.draw(context, { from, to, width, height, ratio, x: (time) => ((time - from) / (to - from)) * width }, this.colours);
  }

  // --- by hand

  // Lets a node be dragged, pinched, wheeled and clicked. `first` may take a press for itself.
  listen(node, first) {
    node.addEventListener("wheel", (event) => this.wheel(event, node), { passive: false });
    node.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      node.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.clientX, began: event.clientX, moved: false, scrub: Boolean(first) });
      if (first) first(event, node);
    });
    node.addEventListener("pointermove", (event) => {
      const mine = this.pointers.get(event.pointerId);
      if (!mine) return;
      if (Math.abs(event.clientX - mine.began) > STILL) mine.moved = true;
      if (mine.scrub && this.pointers.size === 1) first(event, node);
      else if (mine.moved) this.drag(event, mine, node);
      if (mine.moved) mine.x = event.clientX;
    });
    const end = (event) => {
      const mine = this.pointers.get(event.pointerId);
      this.pointers.delete(event.pointerId);
      if (mine && !mine.moved && !mine.scrub && event.type === "pointerup") {
        const time = this.inside(event, node);
        this.onSeek(time);
        this.onClick?.(node, time);
      }
    };
    node.addEventListener("pointerup", end);
    node.addEventListener("pointercancel", end);
  }

  inside(event, node) {
    const time = this.at(event.clientX - node.getBoundingClientRect().left);
    return Math.min(Math.max(0, time), this.duration);
  }

  scrub(event, node) {
    this.onSeek(this.inside(event, node));
  }

  drag(event, mine, node) {
    if (this.pointers.size === 1) return this.move(((mine.x - event.clientX) / this.width) * this.span);
    const [a, b] = [...this.pointers.values()];
    const other = mine === a ? b : a, left = node.getBoundingClientRect().left;
    const before = Math.abs(mine.x - other.x), after = Math.abs(event.clientX - other.x);
    const middle = this.at((mine.x + other.x) / 2 - left);
    if (before > 8 && after > 8) this.zoom(before / after, middle);
    this.move(((mine.x - event.clientX) / 2 / this.width) * this.span);
  }

  wheel(event, node) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? this.width : 1;
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.move(((sideways * unit) / this.width) * this.span);
    } else {
      const most = Math.max(-120, Math.min(120, event.deltaY * unit));
      this.zoom(Math.exp(most * (event.ctrlKey ? 0.01 : 0.0025)), this.inside(event, node));
    }
  }
}

function colours(root) {
  const style = getComputedStyle(root);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: of("ink"), faint: of("faint"), line: of("line"), soft: of("soft"), panel: of("panel"), accent: of("amber"),
    bad: of("bad"), badSoft: of("bad-soft"), accentSoft: of("amber-soft"),
    series: [of("segment"), of("amber"), of("collection"), of("good")],
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
  };
}

export function stepFor(span, width) {
  return STEPS.find((step) => (step / span) * width >= APART) ?? STEPS.at(-1);
}

function ticks(context, view, colours) {
  const { from, to, width, height } = view;
  const step = stepFor(to - from, width);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  context.fillStyle = colours.line;
  for (let n = Math.ceil((from / step) * 5 - 1e-9); (n * step) / 5 <= to; n++) {
    const high = n % 5 ? 4 : 9;
    context.fillRect(Math.round(view.x((n * step) / 5)), height - high, 1, high);
  }
  context.fillStyle = colours.faint;
  for (let n = Math.ceil(from / step - 1e-9); n * step <= to; n++) {
    const words = clock(n * step, step), x = view.x(n * step);
    context.textAlign = x < 20 ? "left" : x > width - 20 ? "right" : "center";
    context.fillText(words, Math.min(width, Math.max(0, x)), 3);
  }
}
