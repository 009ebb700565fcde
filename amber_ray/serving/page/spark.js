// A small curve over the last hour: now at the right, nought at the bottom.

import { svg } from "./dom.js";

const WIDTH = 120, HEIGHT = 30, HOUR_MS = 3_600_000;

export function spark(label) {
  const line = svg("polyline", { points: "" });
  const node = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, line);
  return {
    node,
    update(points) {
      const now = points.at(-1)?.[0] ?? 0, span = Math.min(HOUR_MS, Math.max(60_000, now - (points[0]?.[0] ?? now)));
      const most = Math.max(...points.map(([, value]) => value), 0) || 1;
      line.setAttribute("points", points.map(([at, value]) => {
        const x = WIDTH - ((now - at) / span) * WIDTH, y = HEIGHT - 1 - (value / most) * (HEIGHT - 3);
        return `${x.toFixed(1)},${y.toFixed(1)}`;
      }).join(" "));
      const minutes = Math.round(span / 60_000);
      node.setAttribute("aria-label", `${label}, over the last ${minutes === 60 ? "hour" : `${minutes} min`}: at most ${Number(most.toPrecision(3))}`);
    },
  };
}
