// Series of /v1/stats by their labels: `on_the_way{class="batch",feature="shots",state="turn",tenant="search"}`.

export function split(series) {
  const brace = series.indexOf("{");
  if (brace < 0) return [series, {}];
  const labels = {};
  for (const [, name, value] of series.slice(brace).matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
    labels[name] = value.replace(/\\(.)/g, (_, one) => (one === "n" ? "\n" : one));
  }
  return [series.slice(0, brace), labels];
}

// All series of a name: [{...labels, value}].
export function of(stats, name) {
  return Object.entries(stats)
    .filter(([series]) => series.startsWith(`${name}{`))
    .map(([series, value]) => ({ ...split(series)[1], value }));
}
