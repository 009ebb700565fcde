// What is there: every asset as a tile, by folder, kind, length and name; and features computed or taken along for many.
//
// The address has the filters, the first tile in view and the features to compute: `#/catalogue?kind=video&at=5200`.

import { Batch, files } from "../batch.js";
import { h } from "../dom.js";
import { Glance } from "../glance.js";
import { Grid } from "../grid.js";
import { Listing, foldersOf } from "../listing.js";
import { picker } from "../picker.js";
import { bytes, clock, count, lasting, many } from "../words.js";

const FILTERS = { prefix: "prefix", kind: "kind", min: "min_duration", max: "max_duration" };
const SIGNS = { video: "▶", audio: "♪", image: "▣" };
const FOLDERS_SHOWN = 40, FRESH_MS = 120_000;

let before = null; // the list that was shown last, for whoever comes back from an asset: {asked, session, at, listing}

export function open(root, address, context) {
  const { api, go, say } = context;
  let listing = null, shown = [], wantedAt = 0, current = "", features = new Map(), glance = null, batch = null, noting = 0;
  let sought = {}; // how far a listing was looked through for a name
  const wanted = new Set();

  // --- the filters

  const fields = {
    prefix: h("input", { type: "text", placeholder: "/media/films/", spellcheck: "false" }),
    name: h("input", { type: "search", placeholder: "part of a name", spellcheck: "false" }),
    kind: h("select", {}, [["", "all"], ["video", "films"], ["audio", "sound"], ["image", "pictures"]]
      .map(([value, words]) => h("option", { value }, words))),
    min: h("input", { type: "number", min: 0, step: "any", placeholder: "0" }),
    max: h("input", { type: "number", min: 0, step: "any", placeholder: "any" }),
  };
  const labels = { prefix: "Folder", name: "Name", kind: "Kind", min: "At least, seconds", max: "At most, seconds" };
  const form = h("form", { class: "filters", onsubmit: filtered, onchange: filtered },
    Object.entries(fields).map(([name, field]) => h("label", { class: `of-${name}` }, labels[name], field)));
  fields.name.addEventListener("input", filtered);
  const folders = h("div", { class: "folders" });
  const told = h("p", { class: "faint", role: "status" });
  const nothing = h("p", { hidden: true }, "Nothing here: whatever is asked for, uploaded or kept true by a demand appears. ",
    h("a", { href: "#/ask" }, "Ask for a film"));
  const grid = new Grid({ label: "Assets", tile, left, open: opened, moved, chose });

  // --- what is done with those that are chosen

  const chosenWords = h("strong", {}, "nothing chosen");
  const choosing = picker("Features", () => features, wanted, note);
  const button = (words, act, quiet = true) => h("button", { type: "button", class: quiet ? "quiet" : null, onclick: act }, words);
  const start = button("Compute", compute, false), cost = button("What would it cost?", explain), take = button("Export", exported);
  const cancel = button("Cancel", () => batch?.cancel()), none = button("Choose none", () => grid.choose([]));
  const look = button("Open", () => opened([...grid.chosen][0]));
  const fill = h("div", { class: "fill" });
  const status = h("p", { role: "status", class: "status" }), links = h("p", { class: "links" });
  const progress = h("div", { class: "progress", hidden: true }, h("div", { class: "bar" }, fill));
  const bar = h("section", { class: "panel chosen-bar", "aria-label": "What is chosen" },
    h("p", { class: "row" }, chosenWords, look, button("Choose all", () => grid.choose(shown.keys())), none),
    choosing.node, h("p", { class: "row" }, start, take, cost, cancel), progress, status, links);
  cancel.hidden = true;
  chose();

  root.append(h("h1", { class: "unseen" }, "Catalogue"), h("div", { class: "panel filter-panel" }, form, folders, told, nothing), grid.node, bar);

  // --- the list

  function query() {
    const given = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value.trim()]));
    return { ...given, feature: [...wanted] };
  }

  function filtered(event) {
    if (event.type === "submit") event.preventDefault();
    go(["catalogue"], query(), { replace: true });
    list(0);
  }

  function list(at) {
    const given = query();
    const filter = Object.fromEntries(Object.entries(FILTERS).filter(([name]) => given[name]).map(([name, sent]) => [sent, given[name]]));
    const asked = JSON.stringify(filter);
    wantedAt = at;
    grid.clear();
    if (asked === current && listing && !listing.error) return more(listing); // by name alone: what is here is looked through
    current = asked;
    listing?.stop();
    say(null);
    const good = before?.asked === asked && before.session === context.session && Date.now() - before.at < FRESH_MS && before.listing.done;
    if (!good) before = { asked, session: context.session, at: Date.now(), listing: new Listing(api, filter) };
    listing = before.listing;
    listing.onMore = more;
    more(listing);
  }

  function more(from) {
    if (from !== listing) return;
    if (from.error) say(from.error);
    const name = fields.name.value.trim().toLowerCase();
    if (!name) shown = from.entries;
    else {
      if (sought.from !== from || sought.name !== name) [shown, sought] = [[], { from, name, upTo: 0 }];
      for (; sought.upTo < from.entries.length; sought.upTo++) {
        const one = from.entries[sought.upTo];
        if (one.name.toLowerCase().includes(name)) shown.push(one);
      }
    }
    grid.resize(shown.length);
    if (wantedAt && grid.columns && (wantedAt < shown.length || from.done)) {
      const at = Math.min(wantedAt, shown.length - 1);
      wantedAt = 0;
      if (at > 0) grid.show(at);
    }
    const which = name ? `${count(shown.length)} of ${many(from.entries.length, "asset")}` : many(shown.length, "asset");
    told.textContent = from.done ? which : `${which} so far`;
    nothing.hidden = !from.done || shown.length > 0;
    if (from.done || from.entries.length === 1000) showFolders(from);
  }

  function showFolders(from) {
    const prefix = fields.prefix.value.trim();
    const found = foldersOf(from.entries);
    const into = (path) => () => go(["catalogue"], { ...query(), prefix: path });
    const chip = (words, path) => h("button", { type: "button", class: "folder", title: path || "all assets", onclick: into(path) }, words);
    const steps = [...found.common.matchAll(/[^/]+\/+/g)].map((part) => [part[0], found.common.slice(0, part.index + part[0].length)]);
    const above = prefix ? [chip("all", "")] : [];
    const inside = found.folders.slice(0, FOLDERS_SHOWN).map((one) => chip(`${one.name} ${count(one.count)}`, one.path));
    const rest = found.folders.length - FOLDERS_SHOWN;
    folders.replaceChildren(
      ...above, ...steps.slice(-4).filter(([, path]) => path !== prefix || path === found.common).map(([name, path]) => chip(name, path)),
      h("span", { class: "faint", "aria-hidden": "true" }, inside.length ? "›" : ""), ...inside,
      rest > 0 ? h("span", { class: "faint" }, `and ${count(rest)} more`) : "",
    );
  }

  // --- tiles

  function tile(index) {
    const asset = shown[index];
    const length = asset.duration == null ? "" : clock(Math.floor(asset.duration));
    const node = h("div", { class: `tile of-${asset.kind}` },
      h("div", { class: "picture" }, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[asset.kind] ?? "?"),
        length && h("span", { class: "length" }, length)),
      h("span", { class: "name", title: asset.uri }, asset.name),
      h("span", { class: "sizes" }, [asset.size, bytes(asset.bytes)].filter(Boolean).join(" · ")),
      h("span", { class: "known" }, " "));
    node.dataset.asset = asset.id;
    glance?.want(asset.id, asset.kind);
    return node;
  }

  function left(index, node) {
    const id = node.dataset.asset; // which may be in view at another place too
    if (![...grid.nodes.values()].some((other) => other.dataset.asset === id)) glance?.unwant(id);
  }

  function known(id, { features: its, more: others, picture, note: why }) {
    for (const node of grid.nodes.values()) {
      if (node.dataset.asset !== id) continue;
      const frame = node.querySelector(".picture");
      if (picture && !frame.querySelector("img")) frame.append(h("img", { src: picture, alt: "" }));
      if (why) frame.title = why;
      node.classList.toggle("without", Boolean(why));
      if (!its) continue;
      const line = node.querySelector(".known");
      line.textContent = its.length ? `${its.length}${others ? "+" : ""}: ${its.join(", ")}` : why ? why : "nothing yet";
      line.title = line.textContent;
    }
  }

  function opened(index) {
    if (shown[index]) go(["assets", shown[index].id]);
  }

  function moved() {
    clearTimeout(noting);
    if (!wantedAt) noting = setTimeout(note, 250);
  }

  function note() {
    go(["catalogue"], { ...query(), at: wantedAt || grid.first || null }, { replace: true });
    enable();
  }

  // --- computing

  function chose() {
    const n = grid?.chosen.size ?? 0;
    chosenWords.textContent = n ? `${many(n, "asset")} chosen` : "nothing chosen";
    none.hidden = n === 0;
    look.hidden = n !== 1;
    enable();
  }

  function enable() {
    const can = grid.chosen.size > 0 && wanted.size > 0 && batch?.state !== "running";
    for (const one of [start, take, cost]) one.disabled = !can;
  }

  const ids = () => [...new Set([...grid.chosen].sort((a, b) => a - b).map((index) => shown[index].id))];

  function begin() {
    say(null);
    links.replaceChildren();
    batch = new Batch(api, [...wanted], ids(), watched);
    cancel.hidden = false;
    progress.hidden = false;
    watched(batch);
    return batch;
  }

  function watched(mine) {
    if (mine !== batch) return;
    const share = mine.asked ? ((mine.asked / mine.ids.length) * mine.done) / (mine.total || 1) : 0;
    fill.style.width = `${mine.state === "done" ? 100 : 100 * share}%`;
    progress.classList.toggle("bad", mine.state === "failed" || mine.state === "cancelled");
    const failed = mine.failed.length;
    const parts = [mine.state, `${count(mine.done)} of ${many(mine.total, "step")}`, lasting(mine.seconds)];
    if (mine.ids.length > mine.asked) parts.push(`${count(mine.asked)} of ${many(mine.ids.length, "asset")} asked for`);
    if (failed) parts.push(`${many(failed, "result")} failed`);
    status.textContent = parts.join(", ");
    if (mine.error) say(mine.error);
    if (mine.state === "running") return;
    cancel.hidden = true;
    for (const id of mine.ids) glance?.forget(id);
    if (failed) links.replaceChildren(h("a", { href: "#/work" }, "see what failed"), ` ${mine.failed[0].error?.message ?? ""}`);
    enable();
  }

  function compute() {
    begin();
    enable();
  }

  async function exported() {
    const mine = begin();
    enable();
    await mine.ended;
    if (mine !== batch || mine.state !== "done") return;
    try {
      for await (const { name, blob, values } of files(api, mine.results)) {
        links.append(h("a", { href: URL.createObjectURL(blob), download: name }, name), ` ${many(values, "value")}, ${bytes(blob.size)}  `);
      }
    } catch (error) {
      say(error);
    }
  }

  async function explain() {
    say(null);
    status.textContent = "counting";
    try {
      const plan = await api.post("v1/explain", { features: [...wanted], assets: ids().map((id) => ({ id })) });
      const states = Object.entries(plan.states).map(([state, n]) => `${count(n)} ${state}`).join(", ");
      const unknown = plan.unknown.length ? `; nobody knows yet how long ${plan.unknown.join(", ")} take` : "";
      status.textContent = `${many(plan.steps.length, "step")}: ${states || "none"}; about ${lasting(plan.seconds)} of work${unknown}`;
    } catch (error) {
      status.textContent = "";
      say(error);
    }
  }

  // --- the address

  function update({ query: given }) {
    for (const [name, field] of Object.entries(fields)) field.value = given.get(name) ?? "";
    wanted.clear();
    for (const name of given.getAll("feature")) wanted.add(name);
    choosing.show();
    list(Number(given.get("at")) || 0);
  }

  async function begun() {
    try {
      features = await context.features();
    } catch (error) {
      say(error);
    }
    const pictures = [...features.values()].filter((one) => one.per === "asset" && one.returns.media?.startsWith("image/"));
    const maker = pictures.find((one) => one.name === "thumbnail") ?? pictures.find((one) => !one.inputs.length);
    glance = new Glance(api, maker?.name ?? null, known);
    choosing.show();
    for (const index of grid.nodes.keys()) glance.want(shown[index].id, shown[index].kind);
    update(address);
  }

  return {
    update,
    ready: begun(),
    close() {
      clearTimeout(noting);
      if (listing && !listing.done) listing.stop();
      grid.close();
      glance?.close();
    },
  };
}
