// Numbers as people read them.

// To a fraction of a second as fine as the step: 75.4 -> "1:15", 3725 -> "1:02:05", (75.4, 0.5) -> "1:15.4"
export function clock(seconds, step = 1) {
  const digits = step >= 1 ? 0 : Math.min(3, Math.ceil(-Math.log10(step)));
  const scale = 10 ** digits;
  const all = Math.round(seconds * scale);
  const whole = Math.floor(all / scale), rest = digits ? `.${String(all % scale).padStart(digits, "0")}` : "";
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return `${h ? `${h}:${two(m)}` : m}:${two(s)}${rest}`;
}

// How long something took: "340 ms", "12.0 s"
export const took = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);

// A length of time in its largest fitting unit: "340 ms", "12 s", "4 min", "3 h", "2 days"
export function lasting(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const units = [["s", 1, 90], ["min", 60, 90 * 60], ["h", 3600, 48 * 3600], ["days", 86_400, Infinity]];
  const [unit, size] = units.find(([, , below]) => seconds < below);
  const value = seconds / size;
  return `${value < 10 && unit !== "days" ? Number(value.toFixed(1)) : Math.round(value)} ${unit}`;
}

export function bytes(value) {
  const steps = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; value >= 1000 && i < 4; i++) value /= 1000;
  return `${Number(value.toPrecision(3))} ${steps[i]}`;
}

export const count = (value) => value.toLocaleString("en");

export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

// The last part of a place, readable.
export function nameOf(uri) {
  const last = uri.replace(/\/$/, "").split("/").pop();
  try {
    return uri.includes("://") ? decodeURIComponent(last) : last;
  } catch {
    return last;
  }
}
