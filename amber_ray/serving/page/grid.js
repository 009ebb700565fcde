// A grid of any number of tiles, of which those in view (and two rows around) are nodes.
//
// It is a list box: the whole has the focus, one tile is active, some are chosen. Arrows, Home, End and the page keys move;
// Space chooses; Shift chooses what lies between; Ctrl+A chooses all; Enter opens.

import { h } from "./dom.js";

const LEAST_WIDTH = 168, HEIGHT = 196, GAP = 12, AROUND = 2;

export class Grid {
  // `tile(index)` makes a node; `left(index, node)` says that it is gone; `open(index)` follows it; `moved()` and
  // `chose()` are told of the view and of the choice.
  constructor({ label, tile, left, open, moved, chose }) {
    Object.assign(this, { tile, left, open, moved, chose });
    this.count = 0;
    this.active = -1;
    this.anchor = -1; // where a choice with Shift begins
    this.chosen = new Set();
    this.nodes = new Map();
    this.inner = h("div", { class: "tiles", role: "presentation" });
    this.node = h("div", {
      class: "grid", role: "listbox", tabindex: 0, "aria-label": label, "aria-multiselectable": "true",
      onscroll: () => this.#later(), onkeydown: (event) => this.#key(event), onclick: (event) => this.#click(event),
      ondblclick: (event) => this.#at(event, (index) => this.open(index)),
    }, this.inner);
    this.resized = new ResizeObserver(() => this.#measure());
    this.resized.observe(this.node);
  }

  close() {
    this.resized.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = 0; // none is asked for any more
    this.clear();
  }

  clear() {
    for (const [index, node] of this.nodes) this.#drop(index, node);
    this.chosen.clear();
    this.active = this.anchor = -1;
    this.count = 0;
    this.node.scrollTop = 0;
  }

  // There are so many tiles now.
  resize(count) {
    this.count = count;
    this.#measure();
  }

  get first() {
    return Math.max(0, Math.floor(this.node.scrollTop / (HEIGHT + GAP))) * (this.columns ?? 1);
  }

  show(index) {
    this.node.scrollTop = Math.floor(index / this.columns) * (HEIGHT + GAP);
    this.#draw();
  }

  // The node of a tile, where it is in view.
  of(index) {
    return this.nodes.get(index);
  }

  mark() {
    for (const [index, node] of this.nodes) {
      node.setAttribute("aria-selected", this.chosen.has(index));
      node.classList.toggle("active", index === this.active);
    }
    const active = this.nodes.get(this.active);
    if (active) this.node.setAttribute("aria-activedescendant", active.id);
    else this.node.removeAttribute("aria-activedescendant");
  }

  choose(indices) {
    this.chosen = new Set(indices);
    this.mark();
    this.chose();
  }

  #measure() {
    const width = this.inner.clientWidth;
    if (!width) return;
    const top = this.first;
    const columns = Math.max(2, Math.floor((width + GAP) / (LEAST_WIDTH + GAP)));
    const changed = this.columns !== undefined && this.columns !== columns;
    this.columns = columns;
    this.width = (width - GAP * (columns - 1)) / columns;
    this.inner.style.height = `${Math.max(0, Math.ceil(this.count / columns) * (HEIGHT + GAP) - GAP)}px`;
    if (changed) this.node.scrollTop = Math.floor(top / columns) * (HEIGHT + GAP);
    for (const [index, node] of this.nodes) this.#put(index, node);
    this.#draw();
  }

  #later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.#draw();
    });
  }

  #draw() {
    if (!this.columns) return;
    const row = HEIGHT + GAP;
    const from = Math.max(0, Math.floor(this.node.scrollTop / row) - AROUND) * this.columns;
    const below = Math.ceil((this.node.scrollTop + this.node.clientHeight) / row) + AROUND;
    const to = Math.min(this.count, below * this.columns);
    for (const [index, node] of this.nodes) if (index < from || index >= to) this.#drop(index, node);
    for (let index = from; index < to; index++) {
      if (this.nodes.has(index)) continue;
      const node = this.tile(index);
      node.id = `tile-${index}`;
      node.dataset.index = index;
      node.setAttribute("role", "option");
      node.setAttribute("aria-posinset", index + 1);
      node.setAttribute("aria-setsize", this.count);
      this.#put(index, node);
      this.nodes.set(index, node);
      this.inner.append(node);
    }
    this.mark();
    this.moved();
  }

  #put(index, node) {
    const [x, y] = [index % this.columns, Math.floor(index / this.columns)];
    node.style.width = `${this.width}px`;
    node.style.height = `${HEIGHT}px`;
    node.style.transform = `translate(${x * (this.width + GAP)}px, ${y * (HEIGHT + GAP)}px)`;
  }

  #drop(index, node) {
    node.remove();
    this.nodes.delete(index);
    this.left(index, node);
  }

  #at(event, then) {
    const node = event.target.closest("[data-index]");
    if (node) then(Number(node.dataset.index), event);
  }

  #click(event) {
    this.#at(event, (index) => {
      if (event.target.closest(".name") && !event.shiftKey && !event.ctrlKey && !event.metaKey) return this.open(index);
      if (event.shiftKey && this.anchor >= 0) this.#between(this.anchor, index);
      else {
        if (!this.chosen.delete(index)) this.chosen.add(index);
        this.anchor = index;
      }
      this.#activate(index);
      this.chose();
    });
  }

  #between(one, other) {
    for (let index = Math.min(one, other); index <= Math.max(one, other); index++) this.chosen.add(index);
  }

  #activate(index) {
    this.active = index;
    const row = Math.floor(index / this.columns) * (HEIGHT + GAP);
    if (row < this.node.scrollTop) this.node.scrollTop = row;
    else if (row + HEIGHT > this.node.scrollTop + this.node.clientHeight) this.node.scrollTop = row + HEIGHT - this.node.clientHeight;
    this.#draw();
  }

  #key(event) {
    const rows = Math.max(1, Math.floor(this.node.clientHeight / (HEIGHT + GAP)));
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -rows * this.columns, PageDown: rows * this.columns, Home: -Infinity, End: Infinity,
    };
    if (event.key in steps && this.count) {
      const step = steps[event.key], fresh = this.active < 0 && Number.isFinite(step);
      const to = fresh ? this.first : Math.min(this.count - 1, Math.max(0, this.active + step));
      if (event.shiftKey) {
        if (this.anchor < 0) this.anchor = Math.max(0, this.active);
        this.#between(this.anchor, to);
      } else this.anchor = to;
      this.#activate(to);
      if (event.shiftKey) this.chose();
    } else if (event.key === " " && this.active >= 0) {
      if (!this.chosen.delete(this.active)) this.chosen.add(this.active);
      this.mark();
      this.chose();
    } else if (event.key === "Enter" && this.active >= 0) this.open(this.active);
    else if (event.key === "Escape") this.choose([]);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) this.choose(Array(this.count).keys());
    else return;
    event.preventDefault();
  }
}
