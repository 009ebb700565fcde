// Draws what a track has in view, each part by its kind. What is out of view costs nothing; numbers that share a column
// of pixels are drawn as their least and greatest, found through a pyramid of those of 16 (`pyramid`), so that an hour
// costs as much as a minute.

const FOLD = 16, FOLDED = 2048;
const LETTER = 6.3; // pixels of a letter, about: text is cut by it, since measuring each costs more than drawing all
const NARROW = 26; // pixels below which a range has no text
const ROW = 22; // pixels of a row of ranges
const ROWS = 5;
const BUDGET = 7; // ms of a picture of the screen that may be spent on making images

export function heightOf(track) {
  if (track.kind === "picture") return 84;
  if (track.kind === "image") return 64;
  if (track.kind === "range") return Math.max(30, laned(track) * ROW + 8);
  return track.kind === "bar" ? 40 : track.kind === "curve" || track.kind === "outline" ? 60 : 30;
}

// Draws a track; says whether there was more to do than the time allowed.
export function draw(track, context, view, colours) {
  const { from, to, width, height } = view;
  const began = performance.now();
  context.fillStyle = colours.soft;
  context.fillRect(0, 0, width, height);
  let more = false;
  track.joints = []; // where each line has come to, for the next unit's
  for (const unit of track.between(from, to)) {
    unit.seen = track.memory.turn;
    if (unit.state !== "ready" || !unit.parts) waiting(unit, context, view, colours);
    if (!unit.parts) continue;
    for (const part of unit.parts) {
      if (part.end <= from || part.start >= to) continue;
      const late = performance.now() - began > BUDGET;
      more = DRAW[part.kind]?.(part, track, context, view, colours, late) || more;
    }
  }
  if (track.kind === "curve" || track.kind === "outline") scale(track, context, view, colours);
  if (track.note) note(track.note, context, view, colours);
  return more;
}

const DRAW = { curve, outline, picture, range, bar, image, text: words };

function note(text, context, { width, height }, colours) {
  const wide = text.length * LETTER + 20;
  context.fillStyle = colours.panel;
  context.fillRect(width / 2 - wide / 2, height / 2 - 10, wide, 20);
  context.fillStyle = colours.ink;
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, width / 2, height / 2);
}

function edges(part, view) {
  const left = Math.max(-2, view.x(part.start)), right = Math.min(view.width + 2, view.x(part.end));
  return [left, Math.max(1, right - left)];
}

// What is not there: hatched where nothing is known, tinted where it comes, red where it failed.
function waiting(unit, context, view, colours) {
  const [left, wide] = edges(unit, view);
  if (unit.state === "ready") return; // its value is on its way
  if (unit.state === "failed") {
    context.fillStyle = colours.badSoft;
    context.fillRect(left, 0, wide, view.height);
    context.fillStyle = colours.bad;
    context.fillRect(left, view.height - 3, wide, 3);
    if (wide > 60) label(`failed: ${unit.failure?.message ?? ""}`, left + 4, view.height / 2, wide - 8, context, colours.bad);
    return;
  }
  const comes = unit.state !== "missing";
  context.fillStyle = comes ? colours.accentSoft : colours.panel;
  context.fillRect(left, 0, wide, view.height);
  if (comes) return;
  context.strokeStyle = colours.faint;
  context.globalAlpha = 0.4;
  context.lineWidth = 1;
  context.beginPath();
  const step = 9, high = view.height;
  for (let x = Math.floor((left - high) / step) * step; x < left + wide; x += step) {
    const a = Math.max(left, x), b = Math.min(left + wide, x + high);
    if (b <= a) continue;
    context.moveTo(a, high - (a - x));
    context.lineTo(b, high - (b - x));
  }
  context.stroke();
  context.globalAlpha = 1;
}

function label(text, x, y, wide, context, colour) {
  const most = Math.floor(wide / LETTER);
  if (most < 1 || !text) return;
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = colour;
  context.fillText(text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text, x, y);
}

// --- curves

function curve(part, track, context, view, colours) {
  if (part.points) return points(part, context, view, colours);
  const spread = track.high - track.low || 1, high = view.height - 8;
  const y = (value) => view.height - 4 - ((value - track.low) / spread) * high;
  part.lines.forEach((line, n) => {
    track.joints[n] = trace(line, part, context, view, y, colours.series[n % colours.series.length], track.joints[n]);
  });
}

// Draws a line's values; returns where it ended, from which the next unit's goes on.
function trace(line, part, context, view, y, colour, joint) {
  const { values, times } = line, count = values.length;
  const step = (part.end - part.start) / count;
  const index = times ? (t) => lower(times, t) : (t) => Math.min(count, Math.max(0, Math.ceil((t - part.start) / step - 1e-9)));
  const time = times ? (i) => times[i] : (i) => part.start + i * step;
  const first = Math.max(0, index(view.from) - 1), last = Math.min(count, index(view.to) + 1);
  const left = Math.max(0, Math.floor(view.x(part.start))), right = Math.min(view.width, Math.ceil(view.x(part.end)));
  context.strokeStyle = context.fillStyle = colour;
  const joins = joint && Math.abs(joint.end - part.start) < 1e-3;
  const ended = last === count && { end: part.end, x: view.x(time(count - 1)), y: y(Number(values[count - 1])) };
  if (last - first <= 2 * (right - left)) {
    context.lineWidth = 1.4;
    context.beginPath();
    if (joins) context.moveTo(joint.x, joint.y);
    for (let i = first; i < last; i++) context.lineTo(view.x(time(i)), y(Number(values[i])));
    if (count === 1) context.lineTo(view.x(part.end), y(Number(values[0])));
    context.stroke();
    return ended;
  }
  const levels = (line.levels ??= count > FOLDED ? pyramid(values) : []);
  const per = (view.to - view.from) / view.width;
  let before = joins ? [joint.y, joint.y] : null;
  for (let x = left, i = index(view.from + left * per); x < right; x++) {
    const next = Math.max(i + 1, index(view.from + (x + 1) * per));
    if (i >= count) break;
    const [low, top] = bounds(values, levels, i, Math.min(next, count));
    i = next;
    let a = y(top), b = y(low);
    if (before) [a, b] = [Math.min(a, before[1]), Math.max(b, before[0])];
    context.fillRect(x, a, 1, Math.max(1, b - a));
    before = [y(top), y(low)];
  }
  return ended;
}

// A wave: between the least and the greatest, as high as the loudest that is known.
function outline(part, track, context, view, colours) {
  const { low, high, times } = part, count = times.length, middle = view.height / 2, unit = (middle - 2) / (track.high || 1);
  const levels = (part.levels ??= [pyramid(low), pyramid(high)]);
  const left = Math.max(0, Math.floor(view.x(part.start))), right = Math.min(view.width, Math.ceil(view.x(part.end)));
  const per = (view.to - view.from) / view.width;
  context.fillStyle = colours.series[0];
  for (let x = left; x < right; x++) {
    const i = Math.max(0, lower(times, view.from + x * per + 1e-9) - 1);
    const upto = Math.max(i + 1, lower(times, view.from + (x + 1) * per));
    const top = middle - bounds(high, levels[1], i, upto)[1] * unit, bottom = middle - bounds(low, levels[0], i, upto)[0] * unit;
    context.fillRect(x, top, 1, Math.max(1, bottom - top));
  }
}

function points(part, context, view, colours) {
  const [{ times }] = part.lines;
  context.fillStyle = colours.series[0];
  let before = -1;
  for (let i = lower(times, view.from); i < times.length && times[i] <= view.to; i++) {
    const x = Math.round(view.x(times[i]));
    if (x !== before) context.fillRect((before = x), view.height * 0.3, 1, view.height * 0.4);
  }
}

export function lower(times, time) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function pyramid(values) {
  const levels = [];
  for (let below = { low: values, high: values }; below.low.length > FOLD;) {
    const count = Math.ceil(below.low.length / FOLD);
    const level = { low: new Float32Array(count).fill(Infinity), high: new Float32Array(count).fill(-Infinity) };
    for (let i = 0; i < below.low.length; i++) {
      const at = (i / FOLD) | 0;
      if (below.low[i] < level.low[at]) level.low[at] = below.low[i];
      if (below.high[i] > level.high[at]) level.high[at] = below.high[i];
    }
    levels.push(level);
    below = level;
  }
  return levels;
}

// Least and greatest of values[from, to), by the coarsest level that has them whole.
export function bounds(values, levels, from, to) {
  let low = Infinity, high = -Infinity;
  for (let i = from; i < to;) {
    let level = -1, size = 1;
    while (level + 1 < levels.length && i % (size * FOLD) === 0 && i + size * FOLD <= to) {
      level++;
      size *= FOLD;
    }
    const at = i / size, lows = level < 0 ? values : levels[level].low, highs = level < 0 ? values : levels[level].high;
    if (lows[at] < low) low = lows[at];
    if (highs[at] > high) high = highs[at];
    i += size;
  }
  return [Number(low), Number(high)];
}

function scale(track, context, { height }, colours) {
  if (track.low > track.high) return;
  context.font = "10px ui-monospace, monospace";
  context.textAlign = "left";
  context.textBaseline = "top";
  for (const [value, top] of [[track.high, 1], [track.low, height - 13]]) {
    const words = String(Number(value.toPrecision(3)));
    context.fillStyle = colours.soft;
    context.fillRect(0, top, words.length * LETTER + 4, 12);
    context.fillStyle = colours.faint;
    context.fillText(words, 2, top + 1);
  }
}

// --- pictures of numbers, time to the right and columns upward

function picture(part, track, context, view, colours, late) {
  const wide = view.x(part.end) - view.x(part.start);
  const want = Math.min(part.rows, 2 ** Math.max(3, Math.ceil(Math.log2(Math.max(1, wide * view.ratio)))));
  const scaled = `${want} ${track.low} ${track.high} ${colours.dark}`;
  const stale = part.scaled !== scaled;
  if (stale && !late) {
    part.bitmap?.close();
    part.bitmap = painted(part, want, track, colours.dark);
    part.scaled = scaled;
  }
  if (part.bitmap) {
    track.memory.drew(part, part.bitmap.width * part.bitmap.height);
    context.drawImage(part.bitmap, view.x(part.start), 0, wide, view.height);
  }
  return stale && late;
}

function painted(part, wide, track, dark) {
  const high = part.columns, canvas = new OffscreenCanvas(wide, high);
  const context = canvas.getContext("2d");
  const image = context.createImageData(wide, high), pixels = new Uint32Array(image.data.buffer);
  const colour = palette(part, track, dark), sums = new Float64Array(high);
  for (let x = 0; x < wide; x++) {
    const first = Math.floor((x * part.rows) / wide), last = Math.max(first + 1, Math.floor(((x + 1) * part.rows) / wide));
    sums.fill(0);
    for (let row = first; row < last; row++) for (let y = 0, i = row * high; y < high; y++, i++) sums[y] += part.data[i];
    for (let y = 0; y < high; y++) pixels[(high - 1 - y) * wide + x] = colour[(sums[y] / (last - first)) | 0];
  }
  context.putImageData(image, 0, 0);
  return canvas.transferToImageBitmap();
}

// A colour for each byte: from the part's own range of numbers to the track's.
function palette(part, track, dark) {
  const spread = track.high - track.low || 1, found = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const value = part.low + (i / 255) * (part.high - part.low);
    const t = Math.min(1, Math.max(0, (value - track.low) / spread));
    const [r, g, b] = dark ? [t * 255, t * t * 200, 30 + 60 * (1 - t)] : [255 - 215 * t, 250 - 220 * t, 240 - 150 * t * t];
    found[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return found;
}

// --- ranges

// Puts ranges that overlap into rows, those with the same few names each into one; the number of rows.
export function laned(track) {
  if (track.lanedAt === track.turn) return track.lanes;
  const parts = track.order.flatMap((unit) => unit.parts ?? []).filter((part) => part.kind === "range").sort((a, b) => a.start - b.start);
  const ends = [];
  for (const part of parts) {
    let row = ends.findIndex((end) => end <= part.start + 1e-6);
    if (row < 0) row = ends.length < ROWS ? ends.length : ROWS - 1;
    ends[row] = Math.max(ends[row] ?? 0, part.end);
    part.row = row;
  }
  track.lanedAt = track.turn;
  track.lanes = Math.max(1, ends.length);
  return track.lanes;
}

function range(part, track, context, view, colours) {
  const [left, wide] = edges(part, view);
  const top = 4 + (part.row ?? 0) * ROW, high = ROW - 2;
  context.fillStyle = colours.accentSoft;
  context.fillRect(left, top, Math.max(1, wide - 1), high);
  context.fillStyle = colours.accent;
  context.fillRect(left, top, Math.min(2, wide), high);
  if (part.score !== null) context.fillRect(left, top + high - 3, Math.max(1, wide - 1) * Math.min(1, Math.max(0, part.score)), 3);
  if (wide > NARROW) label(part.text, left + 6, top + high / 2, wide - 10, context, colours.ink);
}

function bar(part, track, context, view, colours) {
  const [left, wide] = edges(part, view);
  const spread = track.high - track.low || 1, share = (part.number - track.low) / spread;
  const high = Math.max(part.number ? 2 : 0, share * (view.height - 6));
  context.fillStyle = colours.accentSoft;
  context.fillRect(left, view.height - high, Math.max(1, wide - 1), high);
  context.fillStyle = colours.accent;
  context.fillRect(left, view.height - high, Math.max(1, wide - 1), 2);
  if (wide > NARROW) label(part.text, left + 4, view.height / 2, wide - 8, context, colours.ink);
}

function words(part, track, context, view, colours) {
  const [left, wide] = edges(part, view);
  if (part.text) label(part.text, left + 6, view.height / 2, wide - 10, context, colours.faint);
}

// --- images

function image(part, track, context, view, colours) {
  const [left, wide] = edges(part, view);
  context.fillStyle = colours.accent;
  context.fillRect(left, 0, 1, view.height);
  if (wide < 10) return;
  if (part.bitmap) {
    const scaledWide = (part.bitmap.width / part.bitmap.height) * view.height;
    const shown = Math.min(scaledWide, wide - 1);
    const share = shown / scaledWide, cut = part.bitmap.width * share;
    const x = view.x(part.start) < 0 ? Math.min(0, view.x(part.end) - shown - 1) : left;
    context.drawImage(part.bitmap, (part.bitmap.width - cut) / 2, 0, cut, part.bitmap.height, x + 1, 0, shown, view.height);
    track.memory.drew(part, part.bitmap.width * part.bitmap.height);
  } else if (!part.decoding) {
    decode(part, track, view.height * view.ratio);
  }
}

async function decode(part, track, high) {
  part.decoding = true;
  try {
    const bitmap = await createImageBitmap(new Blob([part.bytes]), { resizeHeight: Math.round(high), resizeQuality: "medium" });
    if (track.closed || !part.decoding) return bitmap.close();
    part.bitmap = bitmap;
    track.memory.drew(part, bitmap.width * bitmap.height);
  } catch {
    part.kind = "text"; // bytes that are no picture, or none that this browser knows
    part.text = `${part.bytes.length} bytes`;
  }
  track.touch();
}
