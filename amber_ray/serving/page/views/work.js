// What the service does: what runs and waits and for what, requests, models that are warm, what failed, demands,
// deliveries, nodes; and the numbers with their last hour.

import { h, keyed } from "../dom.js";
import { failureList } from "../failures.js";
import { SHOWN, note, points, text, total } from "../numbers.js";
import { of } from "../series.js";
import { spark } from "../spark.js";
import { count, lasting, many } from "../words.js";

const EVERY_MS = 3000, REQUESTS = 30;
const STATES = { running: "runs", turn: "waits for its turn", inputs: "waits for its inputs", retry: "waits to be tried again", store: "is read from the store" };

export function open(root, address, context) {
  const { api } = context;
  let features = new Map();

  const section = (id, title, ...inside) => {
    const words = h("small");
    return { words, node: h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title, " ", words), inside) };
  };
  const table = (label, heads) => {
    const body = h("tbody");
    const node = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
      h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), body));
    return { node, body };
  };

  const numbers = h("dl", { class: "numbers" });
  const way = table("Steps on their way", ["feature", "", "steps", "since", "class", "tenant"]);
  const wayNone = h("p", { class: "faint" }, "Nothing is on its way.");
  const asked = table("Requests", ["features", "state", "results", "began", "tenant", ""]);
  const askedNone = h("p", { class: "faint" }, "No requests are remembered.");
  const only = h("select", { "aria-label": "Which requests", onchange: filtered },
    [["", "all"], ...["running", "done", "failed", "cancelled"].map((one) => [one, one])].map(([value, words]) => h("option", { value }, words)));
  const warm = h("ul", { class: "rows" }), warmNone = h("p", { class: "faint" }, "No model is warm.");
  const failures = failureList(context);
  const demands = h("div"), demandsNone = h("p", { class: "faint" }, "Nothing is kept true.");
  const sent = table("Deliveries", ["to", "state", "tries", "next", "answer", ""]), sentNone = h("p", { class: "faint" }, "No callbacks were asked for.");
  const nodes = h("div");

  const parts = {
    numbers: section("numbers-title", "Now, and over the last hour", numbers),
    way: section("way-title", "On its way", wayNone, way.node),
    asked: section("asked-title", "Requests", only, askedNone, asked.node),
    failures: section("failures-title", "What failed", failures.node),
    warm: section("warm-title", "Warm models", warmNone, warm),
    nodes: section("nodes-title", "Nodes", nodes),
    demands: section("demands-title", "Demands", demandsNone, demands),
    sent: section("sent-title", "Deliveries", sentNone, sent.node),
  };
  for (const [name, { node }] of Object.entries(parts)) node.classList.add(`of-${name}`);
  root.append(h("h1", { class: "unseen" }, "Work"), parts.numbers.node,
    h("div", { class: "column" }, ["way", "failures", "nodes"].map((name) => parts[name].node)),
    h("div", { class: "column" }, ["asked", "warm", "demands", "sent"].map((name) => parts[name].node)));

  const curves = SHOWN.map((one, i) => {
    const value = h("dd"), more = h("span", { class: "faint" }), curve = spark(one.name);
    numbers.append(h("div", { class: one.bad ? "number bad" : "number", title: one.about },
      h("dt", {}, one.name), value, h("dd", { class: "drawn" }, curve.node, more)));
    return () => {
      value.textContent = text(i);
      more.textContent = total(i);
      curve.update(points(i));
    };
  });

  function filtered() {
    context.go(["work"], { requests: only.value }, { replace: true });
    refresh();
  }

  // --- each part, from what the server says

  function showWay(stats) {
    const since = new Map(of(stats, "on_the_way_oldest_seconds").map((one) => [group(one), one.value]));
    const rows = of(stats, "on_the_way").sort((a, b) => rank(a) - rank(b) || b.value - a.value);
    parts.way.words.textContent = rows.length ? many(rows.reduce((n, one) => n + one.value, 0), "step") : "";
    wayNone.hidden = rows.length > 0;
    way.node.hidden = rows.length === 0;
    keyed(way.body, rows.slice(0, 200), group, (first) => {
      const cells = Array.from({ length: 6 }, () => h("td"));
      return {
        node: h("tr", { class: `is-${first.state}` }, cells),
        update(one) {
          const age = since.get(group(one));
          const said = [one.feature, waits(one), count(one.value), age === undefined ? "" : lasting(age), one.class, one.tenant];
          cells.forEach((cell, i) => (cell.textContent = said[i]));
        },
      };
    });
  }

  function waits({ feature, state }) {
    const known = features.get(feature);
    if (state === "inputs" && known?.inputs.length) return `waits for ${known.inputs.join(", ")}`;
    if (state === "turn" && known) {
      const wants = Object.entries(known.resources).filter(([, amount]) => typeof amount === "number" && amount > 0);
      if (wants.length) return `waits for ${wants.map(([name, amount]) => `${amount} ${name}`).join(", ")}`;
    }
    return STATES[state] ?? state;
  }

  function showRequests(page) {
    askedNone.hidden = page.requests.length > 0;
    asked.node.hidden = page.requests.length === 0;
    parts.asked.words.textContent = page.cursor ? `the newest ${REQUESTS}` : "";
    keyed(asked.body, page.requests, (one) => one.id, (first) => {
      const state = h("td"), results = h("td"), began = h("td"), act = h("td");
      const bar = h("div", { class: "fill" }), progress = h("div", { class: "bar" }, bar);
      const cancel = h("button", { type: "button", class: "quiet small", onclick: () => withdraw(first.id) }, "Cancel");
      return {
        node: h("tr", {}, h("td", {}, h("span", { class: "mono", title: first.id }, first.features.join(", "))), state, results, began, h("td", {}, first.tenant), act),
        update(one) {
          state.textContent = one.state;
          state.className = `state-${one.state}`;
          const ended = one.ready + one.failed;
          const words = `${count(one.ready)} of ${count(one.results)}${one.failed ? `, ${count(one.failed)} failed` : ""} `;
          bar.style.width = `${one.results ? (100 * ended) / one.results : 0}%`;
          results.replaceChildren(words, one.state === "running" ? progress : "");
          began.textContent = `${lasting(Math.max(0, Date.now() / 1000 - one.created))} ago`;
          if (one.state !== "running") cancel.remove();
          else if (!cancel.parentNode) act.append(cancel);
        },
      };
    });
  }

  async function withdraw(id) {
    try {
      await api.call(`v1/requests/${id}`, { method: "DELETE" });
      await refresh();
    } catch (error) {
      context.say(error);
    }
  }

  function showWarm(stats) {
    const found = new Map();
    for (const { feature, state, value } of of(stats, "warm_actors_of")) found.set(feature, { ...found.get(feature), [state]: value });
    warmNone.hidden = found.size > 0;
    keyed(warm, [...found], ([feature]) => feature, ([feature]) => {
      const words = h("span", { class: "faint" });
      return {
        node: h("li", {}, h("a", { class: "mono", href: `#/graph?feature=${encodeURIComponent(feature)}` }, feature), " ", words),
        update: ([, { working = 0, idle = 0 }]) => (words.textContent = [working && `${working} at work`, idle && `${idle} idle`].filter(Boolean).join(", ")),
      };
    });
  }

  function showNodes(stats) {
    const found = new Map();
    for (const { node, resource, value } of of(stats, "node_resources")) found.set(node, { ...found.get(node), [resource]: value });
    parts.nodes.words.textContent = found.size ? many(found.size, "node") : "";
    const held = Object.fromEntries(of(stats, "resources_held").map((one) => [one.resource, one.value]));
    const has = Object.fromEntries(of(stats, "cluster_resources").map((one) => [one.resource, one.value]));
    const lines = [
      ...Object.entries(has).filter(([, amount]) => amount > 0).map(([resource, amount]) => ({
        key: resource, words: `${resource}: ${short(held[resource] ?? 0)} of ${short(amount)} held`, share: (held[resource] ?? 0) / amount })),
      { key: "memory", words: `values in memory: ${text(SHOWN.findIndex((one) => one.name === "values in memory"))}`, share: stats.hot_bytes / (stats.memory_budget_bytes || 1) },
      ...[...found].map(([node, its]) => ({ key: `node ${node}`, words: `${node || "a node"} has ${Object.entries(its).filter(([, n]) => n > 0).map(([name, n]) => `${short(n)} ${name}`).join(", ")}` })),
    ];
    keyed(nodes, lines, (one) => one.key, (first) => {
      const words = h("p", { class: "plain" }), bar = h("div", { class: "fill" });
      return {
        node: h("div", {}, words, first.share === undefined ? null : h("div", { class: "bar" }, bar)),
        update(one) {
          words.textContent = one.words;
          bar.style.width = `${100 * Math.min(1, one.share ?? 0)}%`;
        },
      };
    });
  }

  function showDemands(listed) {
    demandsNone.hidden = listed.length > 0;
    keyed(demands, listed, (one) => one.name, (first) => {
      const words = h("p", { class: "plain" }), failing = h("p", { class: "faint" });
      return {
        node: h("article", { class: "failure" }, h("strong", {}, first.name), h("span", { class: "faint" }, ` ${first.features.join(", ")} of ${first.prefixes.join(", ")}`), words, failing),
        update({ status: s }) {
          const more = [s.running && `${count(s.running)} running`, s.failed && `${count(s.failed)} failed`, s.settling && `${count(s.settling)} still being written`].filter(Boolean);
          words.textContent = s.error ? s.error : s.all_true ? `all ${count(s.true)} true` : [`${count(s.true)} of ${many(s.seen, "asset")} true`, ...more].join(", ");
          words.className = s.error || s.failed ? "plain state-failed" : "plain";
          const [first] = s.failing;
          failing.textContent = first ? `${first.uri}: ${first.message ?? first.error?.message ?? ""}` : "";
        },
      };
    });
  }

  function showDeliveries(listed) {
    sentNone.hidden = listed.length > 0;
    sent.node.hidden = listed.length === 0;
    keyed(sent.body, listed.slice(0, 50), (one) => one.id, (first) => {
      const cells = Array.from({ length: 5 }, () => h("td"));
      const again = h("button", { type: "button", class: "quiet small", onclick: () => replay(first.id) }, "Send again");
      return {
        node: h("tr", {}, cells, h("td", {}, again)),
        update(one) {
          const next = one.next_at ? `in ${lasting(Math.max(0, one.next_at - Date.now() / 1000))}` : "";
          const said = [one.url, one.state, count(one.attempts), next, one.error || (one.status ?? "")];
          cells.forEach((cell, i) => (cell.textContent = said[i]));
          cells[1].className = `state-${one.state}`;
        },
      };
    });
  }

  async function replay(id) {
    try {
      await api.post(`v1/deliveries/${id}/replay`, {});
      await refresh();
    } catch (error) {
      context.say(error);
    }
  }

  // --- what the server says, every few seconds

  async function refresh() {
    const state = only.value ? `&state=${only.value}` : "";
    const ask = (path, show) => api.json(path).then(show);
    const parted = [
      ask("v1/stats", (stats) => {
        note(stats);
        for (const curve of curves) curve();
        showWay(stats);
        showWarm(stats);
        showNodes(stats);
      }),
      ask(`v1/requests?limit=${REQUESTS}${state}`, showRequests),
      ask("v1/failures", (told) => {
        parts.failures.words.textContent = told.failures.length ? count(told.failures.length) : "";
        failures.update(told.failures);
      }),
      ask("v1/deliveries", (told) => showDeliveries(told.deliveries)),
    ];
    if (mayOperate) parted.push(ask("v1/demands", (told) => showDemands(told.demands)).catch(refusedDemands));
    const wrong = (await Promise.allSettled(parted)).find((one) => one.status === "rejected");
    if (!closed) context.say(wrong?.reason ?? null);
  }

  let mayOperate = true, closed = false;
  function refusedDemands(error) {
    if (error.status !== 403) throw error;
    mayOperate = false;
    demandsNone.textContent = "This token may not see demands: that needs the scope operate.";
  }

  function update({ query }) {
    const state = query.get("requests") ?? "";
    if (state !== only.value) {
      only.value = state;
      refresh();
    }
  }

  only.value = address.query.get("requests") ?? "";
  const timer = setInterval(() => document.hidden || refresh(), EVERY_MS);
  const ready = Promise.all([context.features().then((known) => (features = known)), refresh()]);
  return {
    update,
    ready,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}

const group = (one) => JSON.stringify([one.feature, one.state, one.class, one.tenant]);
const rank = (one) => Object.keys(STATES).indexOf(one.state);
const short = (value) => (Number.isInteger(value) ? count(value) : Number(value.toPrecision(3)).toString());
