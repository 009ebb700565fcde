// The registry as a layered graph: inputs left, what is made of them right.

import { svg as make } from "./dom.js";

const WIDTH = 158, LOW = 34, HIGH = 50, GAP_X = 62, GAP_Y = 16, MARGIN = 8;

// Each feature one layer right of its furthest input; within a layer, near the middle of its neighbours.
function layers(features) {
  const byName = new Map(features.map((f) => [f.name, f]));
  const depth = new Map();
  const deep = (name) => {
    if (!depth.has(name)) {
      depth.set(name, 0);
      depth.set(name, Math.max(-1, ...byName.get(name).inputs.map(deep)) + 1);
    }
    return depth.get(name);
  };
  const rows = [];
  for (const f of features) (rows[deep(f.name)] ??= []).push(f.name);
  const users = new Map(features.map((f) => [f.name, []]));
  for (const f of features) for (const input of f.inputs) users.get(input).push(f.name);
  rows[0]?.sort((a, b) => users.get(b).length - users.get(a).length);
  const place = new Map();
  const settle = (row) => row.forEach((name, i) => place.set(name, i - row.length / 2));
  const near = (name) => {
    const others = [...byName.get(name).inputs, ...users.get(name)].map((n) => place.get(n));
    return others.length ? others.reduce((a, b) => a + b, 0) / others.length : 1e6;
  };
  rows.forEach(settle);
  for (let sweep = 0; sweep < 8; sweep++) {
    for (const row of sweep % 2 ? rows.toReversed() : rows) {
      const wanted = new Map(row.map((name) => [name, near(name)]));
      row.sort((a, b) => wanted.get(a) - wanted.get(b));
      settle(row);
    }
  }
  return rows;
}

// `onToggle` and `onHover` are given a feature's name. With `room` each has a second line, which `tell` writes.
export function draw(features, { onToggle, onHover, room = false }) {
  const HEIGHT = room ? HIGH : LOW;
  const rows = layers(features);
  const tallest = Math.max(...rows.map((row) => row.length));
  const height = MARGIN * 2 + tallest * (HEIGHT + GAP_Y) - GAP_Y;
  const width = MARGIN * 2 + rows.length * (WIDTH + GAP_X) - GAP_X;
  const at = new Map();
  rows.forEach((row, x) => {
    const top = (height - (row.length * (HEIGHT + GAP_Y) - GAP_Y)) / 2;
    row.forEach((name, y) => at.set(name, [MARGIN + x * (WIDTH + GAP_X), top + y * (HEIGHT + GAP_Y)]));
  });
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group" });
  svg.style.maxWidth = `${width * 1.15}px`;
  const edges = [];
  for (const f of features) {
    for (const input of f.inputs) {
      const [ax, ay] = at.get(input), [bx, by] = at.get(f.name);
      const x1 = ax + WIDTH, y1 = ay + HEIGHT / 2, y2 = by + HEIGHT / 2, bend = (bx - x1) / 2;
      const path = make("path", { class: "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${bx - bend} ${y2} ${bx} ${y2}` });
      edges.push([input, f.name, path]);
      svg.append(path);
    }
  }
  const nodes = new Map();
  for (const f of features) {
    const [x, y] = at.get(f.name);
    const label = make("text", { x: 15, y: LOW / 2 + 4.5 }, f.name.length > 16 ? `${f.name.slice(0, 15)}…` : f.name);
    const node = make(
      "g",
      { class: `node ${f.per}`, transform: `translate(${x} ${y})`, tabindex: 0, role: "button", "aria-label": f.name },
      make("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 8 }),
      make("rect", { class: "grain", x: 0.6, y: 7, width: 4, height: HEIGHT - 14, rx: 2 }),
      label,
      room ? make("text", { class: "live", x: 15, y: LOW + 6 }) : null,
    );
    if (f.is_class) node.append(make("circle", { class: "warm", cx: WIDTH - 13, cy: LOW / 2, r: 4 }));
    node.addEventListener("click", () => onToggle(f.name));
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        onToggle(f.name);
      }
    });
    for (const name of ["mouseenter", "focus"]) node.addEventListener(name, () => onHover(f.name));
    nodes.set(f.name, node);
    svg.append(node);
  }
  // Light up what the given features stand on.
  const light = (names, chosen) => {
    const lit = new Set();
    const visit = (name) => {
      if (lit.has(name) || !nodes.has(name)) return;
      lit.add(name);
      features.find((f) => f.name === name).inputs.forEach(visit);
    };
    names.forEach(visit);
    for (const [name, node] of nodes) {
      node.classList.toggle("lit", lit.has(name));
      node.classList.toggle("chosen", chosen.has(name));
      node.setAttribute("aria-pressed", chosen.has(name));
    }
    for (const [from, to, path] of edges) path.classList.toggle("lit", lit.has(from) && lit.has(to));
  };
  // A feature's second line, and what it is in: "there", "missing", "busy", "failed" or nothing.
  const tell = (name, words, state = "") => {
    const node = nodes.get(name);
    node.querySelector(".live").textContent = words;
    node.dataset.state = state;
    node.setAttribute("aria-label", words ? `${name}: ${words}` : name);
  };
  return { svg, light, tell };
}
