// What a value looks like over time: by what it is, never by which feature made it.
//
// `read(value, unit, feature)` makes a list of parts, each with `start` and `end` in seconds and one of these kinds:
//
//     curve    lines: [{name, values, times}], `times` null where the values are evenly spaced in the unit
//     outline  low, high: arrays of the least and the greatest at `times`
//     picture  rows x columns of bytes, a row at a time, `low` and `high` of what they stood for; `times` as above
//     range    text, score: something from a time to a time
//     bar      number, text: one number about the unit
//     image    bytes of a picture
//     text     all else, in words
//
// A part may have `boxes`: [{left, top, right, bottom, text, score, points}] as shares of the upright picture, shown while
// its time is. `rest` is the value itself, for whoever wants to read all of it; curves and pictures are not kept twice.

import { Grid } from "./arrow.js";

const LINES = 4; // an array with more columns is a picture
const LONG = 200; // letters of a value in words

// Arrays of a whole asset that run along it; of others, as of a mean vector, nothing says so.
const ALONG = new Set(["speech_probability", "sound_probability"]);
const NAMES = { sound_probability: ["speech", "singing", "music"], colour: [] };

export function read(value, unit, feature) {
  const at = { start: unit.start, end: unit.end };
  if (value instanceof Uint8Array) return [{ ...at, kind: "image", bytes: value }];
  if (value instanceof Grid) return [array(value, at, feature, unit)];
  if (typeof value === "number" || typeof value === "boolean") return [{ ...at, kind: "bar", number: Number(value), text: shown(value) }];
  if (value === null || value === undefined) return [{ ...at, kind: "text", text: "nothing" }];
  if (typeof value !== "object") return [{ ...at, kind: "range", text: String(value), score: null, rest: value }];
  return Array.isArray(value) ? list(value, at, unit) : record(value, at, unit);
}

export function shown(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  if (value instanceof Grid) return `${value.shape.join(" × ")} numbers`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return typeof value === "object" ? JSON.stringify(value, plain).slice(0, LONG) : String(value);
}

// For JSON.stringify: arrays by their size, as nobody reads ten thousand numbers.
export function plain(name, value) {
  if (value instanceof Grid) return value.data.length <= 8 ? Array.from(value.data, Number) : `${value.shape.join(" × ")} numbers`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return typeof value === "bigint" ? String(value) : value;
}

// --- arrays

function array(value, at, feature, unit) {
  const along = unit.per === "segment" || ALONG.has(feature);
  if (!along || !value.shape.length || !value.shape[0] || value.data instanceof BigUint64Array) {
    return { ...at, kind: "text", text: shown(value), rest: value };
  }
  return drawn(value, null, at, NAMES[feature] ?? []);
}

// An array over time, as curves if it has few columns.
function drawn(value, times, at, names, name = "") {
  const count = value.shape[0], { width } = value;
  if (value.shape.length === 1) return { ...at, kind: "curve", lines: [{ name, values: value.data, times }] };
  if (width <= LINES) {
    const line = (column) => ({
      name: names[column] ?? `${name} ${column + 1}`.trim(),
      values: Float32Array.from({ length: count }, (_, i) => Number(value.data[i * width + column])),
      times,
    });
    return { ...at, kind: "curve", lines: Array.from({ length: width }, (_, column) => line(column)) };
  }
  return { ...at, kind: "picture", ...bytes(value.data), rows: count, columns: width, times };
}

// A byte for each number: an hour of spectrograms is 23 MB and not 92.
function bytes(data) {
  let low = Infinity, high = -Infinity;
  for (const one of data) {
    if (one < low) low = one;
    if (one > high) high = one;
  }
  const scale = 255 / (high - low || 1);
  return { low, high, data: Uint8Array.from(data, (one) => (one - low) * scale) };
}

// --- records

function record(value, at, unit) {
  const { times } = value;
  if (value.boxes instanceof Grid && times instanceof Grid) return samples(value, at);
  const arrays = Object.entries(value).filter(([name, part]) => part instanceof Grid && name !== "times");
  if (times instanceof Grid) {
    const along = arrays.filter(([, part]) => part.shape[0] === times.shape[0]);
    if (!times.shape[0]) return [];
    const outline = ["low", "high"].every((name) => along.some(([one, part]) => one === name && part.shape.length === 1));
    if (outline) return [{ ...at, kind: "outline", low: value.low.data, high: value.high.data, times: times.data }];
    if (along.length) return together(along, times.data, at);
    return [{ ...at, kind: "curve", points: true, lines: [{ name: "", values: new Float32Array(times.shape[0]), times: times.data }] }];
  }
  const lines = arrays.filter(([, part]) => part.shape.length === 1 && part.shape[0] > 1);
  if (unit.per === "segment" && lines.length) return together(lines, null, at);
  const parts = Object.values(value).filter((part) => Array.isArray(part)).flatMap((part) => ranges(part, at));
  return [...parts, fields(value, at)];
}

function together(arrays, times, at) {
  const parts = arrays.map(([name, part]) => drawn(part, times, at, [], name));
  const curves = parts.filter((part) => part.kind === "curve");
  const pictures = parts.filter((part) => part.kind === "picture");
  return [...(curves.length ? [{ ...curves[0], lines: curves.flatMap((part) => part.lines) }] : []), ...pictures];
}

function fields(value, at) {
  const plainOnes = Object.entries(value).filter(([, part]) => part === null || typeof part !== "object");
  const number = plainOnes.find(([, part]) => typeof part === "number");
  const text = plainOnes.map(([name, part]) => `${name} ${shown(part)}`).join(" · ") || shown(value);
  return { ...at, kind: number ? "bar" : "text", number: number?.[1], text, rest: value };
}

// Boxes of the pictures looked at (`faces`): each picture's are shown until the next one's.
function samples(value, at) {
  const times = value.times.data, found = Array.from(times, () => []);
  const points = value.landmarks instanceof Grid ? value.landmarks : null;
  for (let i = 0; i < value.boxes.shape[0]; i++) {
    const [left, top, right, bottom] = value.boxes.data.subarray(4 * i, 4 * i + 4);
    const score = value.scores?.data[i] ?? null;
    const of = value.frame ? value.frame.data[i] : i;
    const marks = points && Array.from(points.data.subarray(i * points.width, (i + 1) * points.width));
    found[of]?.push({ left, top, right, bottom, score, text: "", points: marks });
  }
  return found.map((boxes, i) => ({
    start: times[i],
    end: i + 1 < times.length ? times[i + 1] : at.end,
    kind: "bar",
    number: boxes.length,
    text: boxes.length ? `${boxes.length}` : "",
    boxes,
  }));
}

// --- lists

function list(value, at, unit) {
  if (!value.length) return [{ ...at, kind: "text", text: unit.per === "asset" ? "nothing was found" : "", rest: value }];
  if (value.every((one) => typeof one === "number")) {
    return [{ ...at, kind: "curve", lines: [{ name: "", values: Float32Array.from(value), times: null }] }];
  }
  if (value.every(Array.isArray) && unit.per === "segment") return merged(value, at);
  if (value.every((one) => one instanceof Uint8Array)) {
    return [{ ...at, kind: "text", text: `${value.length} pictures`, pictures: value }];
  }
  const found = ranges(value, at);
  if (found.length) return found;
  if (value.every((one) => one && "name" in one)) {
    return [{ ...at, kind: "range", text: value[0].name, score: value[0].score ?? null, rest: value }];
  }
  return [{ ...at, kind: "text", text: shown(value), rest: value }];
}

const isBox = (one) => ["left", "top", "right", "bottom"].every((side) => typeof one[side] === "number");

// What of a list has a time: from `start` to `end`, at a `time`, or the two of a repeat.
function ranges(items, at) {
  const timed = items.filter((one) => one && typeof one === "object");
  if (timed.length && timed.every((one) => "first_start" in one)) {
    return timed.flatMap((one) => [["first", "second"], ["second", "first"]].map(([side, other]) => ({
      start: one[`${side}_start`],
      end: one[`${side}_end`],
      kind: "range",
      text: `as at ${one[`${other}_start`].toFixed(1)} s`,
      score: null,
      rest: one,
    })));
  }
  if (timed.length && timed.every((one) => "start" in one && "end" in one)) {
    return timed.map((one, i) => ({
      start: one.start,
      end: one.end,
      kind: "range",
      text: named(one, i),
      score: one.score ?? one.probability ?? null,
      boxes: isBox(one) ? [{ ...one, text: one.text ?? "" }] : undefined,
      rest: one,
    }));
  }
  if (timed.length && timed.every((one) => "time" in one)) return moments(timed, at);
  return [];
}

const named = (one, i) => String(one.text ?? one.name ?? one.kind ?? ("shot" in one ? `shot ${one.shot}` : i + 1));

// Lines of text as they stood at moments: those of one moment are shown until the next one's.
function moments(items, at) {
  const times = [...new Set(items.map((one) => one.time))].sort((a, b) => a - b);
  const step = Math.min(...times.map((time, i) => (times[i + 1] ?? Infinity) - time), 1);
  return times.map((time, i) => {
    const its = items.filter((one) => one.time === time);
    return {
      start: time,
      end: Math.min(times[i + 1] ?? at.end, time + step, at.end),
      kind: "range",
      text: its.map((one, n) => named(one, n)).join(" / "),
      score: Math.min(...its.map((one) => one.score ?? 1)),
      boxes: its.every(isBox) ? its.map((one) => ({ ...one, text: one.text ?? "" })) : undefined,
      rest: its,
    };
  });
}

// Guesses of each picture (`labels`): neighbours with the same first one are a range, with the best score among them.
function merged(value, at) {
  const step = (at.end - at.start) / value.length, found = [];
  value.forEach((guesses, i) => {
    const [first] = guesses, last = found.at(-1);
    if (!first) return;
    const end = at.start + (i + 1) * step;
    const joins = last && last.text === first.name && last.end > end - 1.5 * step;
    if (joins) Object.assign(last, { end, score: Math.max(last.score, first.score) });
    else found.push({ start: end - step, end, kind: "range", text: first.name, score: first.score, rest: guesses });
  });
  return found;
}

// About how many bytes a part holds on to.
export function size(part) {
  let bytes = 200 + (part.text?.length ?? 0) * 2 + (part.bytes?.length ?? 0) + (part.data?.length ?? 0);
  for (const line of part.lines ?? []) bytes += line.values.byteLength + (line.times?.byteLength ?? 0);
  if (part.kind === "outline") bytes += part.low.byteLength + part.high.byteLength + part.times.byteLength;
  for (const one of part.pictures ?? []) bytes += one.length;
  if (part.rest instanceof Grid) bytes += part.rest.data.byteLength;
  return bytes + 150 * (part.boxes?.length ?? 0) + (part.rest ? 300 : 0);
}
