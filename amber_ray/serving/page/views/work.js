// How the service is doing: its numbers, and what failed.

import { h } from "../dom.js";

const EVERY_MS = 3000;

export function open(root, address, context) {
  const stats = h("dl", { class: "stats" });
  const failures = h("div", { id: "failures" });
  root.append(
    h("h1", { class: "unseen" }, "Work"),
    h("section", { class: "panel", "aria-labelledby": "stats-title" }, h("h2", { id: "stats-title" }, "Now"), stats, failures),
  );

  async function refresh() {
    try {
      const [counted, known] = await Promise.all([context.api.json("v1/stats"), context.api.json("v1/failures")]);
      stats.replaceChildren(...Object.entries(counted)
        .filter(([name]) => !/_(bucket|sum|count)\b|feature="/.test(name))
        .map(([name, value]) => h("div", {},
          h("dt", { title: name }, name.replace(/_total$/, "").replaceAll("_", " ")), h("dd", {}, units(name, value)))));
      failures.replaceChildren(...known.failures.slice(0, 8).map((f) => {
        const about = f.uri ? ` of ${f.uri.replace(/^.*\//, "")}` : "";
        return h("p", {}, `${f.step}${about}: ${f.message}`);
      }));
    } catch (error) {
      context.say(error);
    }
  }

  const timer = setInterval(() => document.hidden || refresh(), EVERY_MS);
  const ready = refresh();
  return { update() {}, ready, close: () => clearInterval(timer) };
}

function units(name, value) {
  if (!name.includes("bytes")) return (Number.isInteger(value) ? value : Number(value.toPrecision(6))).toLocaleString("en");
  const steps = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  for (; value >= 1000 && i < 4; i++) value /= 1000;
  return `${Number(value.toPrecision(3))} ${steps[i]}`;
}
