// The numbers of the service by names that a person knows, and how they went over the last hour.
//
// The server keeps no past, so the page does, as long as it is open: one look every few seconds while the numbers are
// shown, otherwise one a minute. What is counted is shown as a rate.

import { bytes, count } from "./words.js";

const HOUR_MS = 3_600_000, LEAST_MS = 4000;

const sum = (stats, ...names) => names.reduce((all, name) => all + (stats[name] ?? 0), 0);
const all = (stats, beginning) =>
  Object.entries(stats).reduce((total, [name, value]) => (name.startsWith(beginning) ? total + value : total), 0);
const short = (value) => (value >= 100 || Number.isInteger(value) ? count(Math.round(value)) : `${Number(value.toPrecision(2))}`);

// What is shown: {name, about, of(stats), rate, text(value, stats)}; `rate`: it is counted, and shown by the minute.
export const SHOWN = [
  { name: "answered from memory", rate: true, about: "values that were held by a replica or in the cluster's memory",
    of: (s) => sum(s, 'hits_total{tier="replica"}', 'hits_total{tier="memory"}') },
  { name: "answered from the store", rate: true, about: "values that were read from Parquet",
    of: (s) => sum(s, 'hits_total{tier="store"}') },
  { name: "computed", rate: true, about: "steps that have run and given a value", of: (s) => sum(s, "computed_total") },
  { name: "answered by others' work", rate: true, about: "answers that another caller's work brought", of: (s) => sum(s, "joined_total") },
  { name: "failed", rate: true, about: "steps that came to a failure", of: (s) => sum(s, "failed_total"), bad: true },
  { name: "steps running", about: "steps that run now", of: (s) => sum(s, "keys_running"), text: short },
  { name: "steps waiting for a turn", about: "steps that could run and wait for a CPU or GPU", of: (s) => all(s, "queued{"), text: short },
  { name: "steps waiting for inputs", about: "steps whose inputs are not there yet", of: (s) => sum(s, "keys_waiting"), text: short },
  { name: "requests at work", about: "requests that are not answered in full yet", of: (s) => sum(s, "requests_running"), text: short },
  { name: "CPUs held", about: "by warm models and by steps that were handed over: some of these begin when others end", of: (s) => sum(s, 'resources_held{resource="CPU"}'),
    text: (v, s) => `${short(v)} of ${short(sum(s, 'cluster_resources{resource="CPU"}'))}` },
  { name: "GPUs held", about: "by warm models and by steps that were handed over", of: (s) => sum(s, 'resources_held{resource="GPU"}'),
    text: (v, s) => `${short(v)} of ${short(sum(s, 'cluster_resources{resource="GPU"}'))}` },
  { name: "values in memory", about: "in the cluster's memory, of the bound that is set", of: (s) => sum(s, "hot_bytes"),
    text: (v, s) => `${bytes(v)} of ${bytes(sum(s, "memory_budget_bytes"))}` },
  { name: "values in the store", about: "Parquet files", of: (s) => sum(s, 'held_bytes{tier="store"}'), text: bytes },
  { name: "not written yet", about: "values in memory that are not in the store yet", of: (s) => sum(s, "unspilled_bytes"), text: bytes },
];

const past = []; // {at, values, stats}, oldest first

export function note(stats, at = Date.now()) {
  if (past.length && at - past.at(-1).at < LEAST_MS) past.pop();
  past.push({ at, values: SHOWN.map((one) => one.of(stats)), stats });
  while (past[0].at < at - HOUR_MS) past.shift();
}

export function forget() {
  past.length = 0;
}

// The points of one number over the last hour, [[ms, value]]: what is counted by the minute. A counter that began again at
// nought counts from there.
export function points(i) {
  if (!SHOWN[i].rate) return past.map(({ at, values }) => [at, values[i]]);
  return past.slice(1).map(({ at, values }, n) => {
    const before = past[n], more = values[i] >= before.values[i] ? values[i] - before.values[i] : values[i];
    return [at, (more * 60_000) / (at - before.at)];
  });
}

export function text(i) {
  const last = past.at(-1);
  if (!last) return "";
  if (!SHOWN[i].rate) return SHOWN[i].text(last.values[i], last.stats);
  const rate = points(i).at(-1)?.[1];
  return rate === undefined ? "…" : `${short(rate)} a minute`;
}

export const total = (i) => (SHOWN[i].rate && past.length ? `${count(past.at(-1).values[i])} in all` : "");
