// The page: shows the view that the address names, and asks for a token where the server wants one.
//
// A view is `open(root, address, context)` in views/NAME.js, which fills `root` and returns `{update(address), close(), ready}`.
// `update` is told of addresses of the same view and the same asset; any other closes it and opens another. Until `ready`, a
// promise that need not be there, the view is said to be busy.

import * as address from "./address.js";
import * as api from "./api.js";
import { h } from "./dom.js";
import * as numbers from "./numbers.js";

const VIEWS = {
  catalogue: ["Catalogue", () => import("./views/catalogue.js")],
  work: ["Work", () => import("./views/work.js")],
  graph: ["Features", () => import("./views/graph.js")],
  ask: ["Ask", () => import("./views/ask.js")],
  assets: [null, () => import("./views/asset.js")], // from the catalogue
};
const HOME = "catalogue";

const $ = (id) => document.getElementById(id);
let shown = null; // {identity, view}
let known = null; // a promise of what is registered
let turn = 0;

const context = {
  api,
  say,
  session: 0, // goes up when another token is used: what was told to the one before is not for this one
  // Goes to an address, or with `replace` says where in the view one is. A view that has been left meanwhile says nothing.
  go(path, query, { replace = false } = {}) {
    const to = address.write(path, query);
    if (to === location.hash) return;
    if (replace && address.read(location.hash).path[0] !== path[0]) return;
    if (replace) history.replaceState(null, "", to);
    else location.hash = to;
  },
  // What is registered, by name; asked for once.
  features() {
    known ??= api.json("v1/features").then(
      (listed) => new Map(listed.features.map((one) => [one.name, one])),
      (error) => {
        known = null;
        throw error;
      },
    );
    return known;
  },
  title(text) {
    document.title = text ? `${text} · Amber` : "Amber";
  },
};

function say(error) {
  $("error").hidden = !error;
  $("error-text").textContent = error ? error.message || String(error) : "";
  if (error instanceof api.Refused && error.status === 401) signIn();
}

function signIn() {
  $("sign-in").hidden = false;
  $("token").focus();
}

async function show() {
  const here = address.read(location.hash);
  const [name, ...rest] = here.path;
  if (!VIEWS[name]) {
    history.replaceState(null, "", address.write([HOME]));
    return show();
  }
  const identity = JSON.stringify([name, ...rest]);
  if (shown?.identity === identity) return shown.view.update(here);
  const mine = ++turn;
  shown?.view.close();
  shown = null;
  say(null);
  context.title(VIEWS[name][0]);
  mark(name);
  const root = h("div", { class: `view ${name}`, "aria-busy": "true" });
  $("main").replaceChildren(root);
  try {
    const { open } = await VIEWS[name][1]();
    if (mine !== turn) return; // somewhere else meanwhile
    shown = { identity, view: open(root, here, context) };
    await shown.view.ready;
  } catch (error) {
    if (mine === turn) say(error);
  } finally {
    root.removeAttribute("aria-busy");
  }
}

function mark(name) {
  const at = name === "assets" ? "catalogue" : name;
  for (const link of $("views").children) {
    if (link.dataset.view === at) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function alive() {
  let [state, words] = ["up", "up"];
  try {
    await api.call("healthz");
  } catch (error) {
    [state, words] = ["down", error instanceof api.Refused ? "refused" : "no answer"];
  }
  $("alive").className = `pill ${state}`;
  $("alive").textContent = words;
}

// Addresses of before there were views: /?uri=...&feature=...&go
function moved() {
  if (location.search && !location.hash) history.replaceState(null, "", `${location.pathname}#/ask${location.search}`);
}

$("views").append(
  ...Object.entries(VIEWS).filter(([, [label]]) => label).map(([name, [label]]) =>
    h("a", { href: `#/${name}`, "data-view": name }, label)),
);
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  $("main").focus();
});
$("token-change").addEventListener("click", signIn);
$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useToken($("token").value.trim());
  $("token").value = "";
  $("sign-in").hidden = true;
  context.session++;
  numbers.forget();
  known = null;
  shown?.view.close();
  shown = null;
  show();
});
$("error-close").addEventListener("click", () => say(null));
window.addEventListener("hashchange", show);
setInterval(() => document.hidden || alive(), 10_000);
setInterval(() => api.json("v1/stats").then(numbers.note, alive), 60_000); // the hour that the work's curves show
moved();
alive();
show();
