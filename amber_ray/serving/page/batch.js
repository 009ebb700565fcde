// A set of features for many assets: asked for in requests of some hundred assets, one after the other, followed by events.

const TOGETHER = 500, KEYS = 10_000;

export class Batch {
  // `onMove(batch)` is called when something has happened. `results` are those that have ended.
  constructor(api, features, ids, onMove) {
    Object.assign(this, { api, features, ids, onMove, results: [], asked: 0, done: 0, total: 0, state: "running", error: null });
    this.began = performance.now();
    this.stopped = new AbortController();
    this.ended = this.#run();
  }

  get failed() {
    return this.results.filter((one) => one.state === "failed");
  }

  get seconds() {
    return ((this.until ?? performance.now()) - this.began) / 1000;
  }

  cancel() {
    this.state = "cancelled";
    this.stopped.abort();
    if (this.request) this.api.call(`v1/requests/${this.request}`, { method: "DELETE" }).catch((error) => (this.error = error));
  }

  async #run() {
    try {
      for (let at = 0; at < this.ids.length && this.state === "running"; at += TOGETHER) {
        await this.#ask(this.ids.slice(at, at + TOGETHER));
      }
      if (this.state === "running") this.state = "done";
    } catch (error) {
      if (error.name !== "AbortError") [this.state, this.error] = ["failed", error];
    } finally {
      this.until = performance.now();
      this.onMove(this);
    }
  }

  async #ask(ids) {
    const view = await this.api.post("v1/compute", { features: this.features, assets: ids.map((id) => ({ id })) }, { Prefer: "wait=0" });
    this.request = view.id;
    if (this.state === "cancelled") return this.cancel();
    const before = this.done;
    const move = ({ done, total }) => {
      Object.assign(this, { done: before + done, total: before + total });
      this.onMove(this);
    };
    this.asked += ids.length;
    move(view.progress);
    let last = view;
    if (view.state === "running") {
      for await (const [name, data] of this.api.events(`v1/requests/${view.id}/events`, this.stopped.signal)) {
        if (name === "done") last = data;
        else if (name === "error") throw new Error(data.detail);
        else move(data);
      }
      move(last.progress);
    }
    this.results.push(...last.results);
  }
}

// The values of results as files, one for each feature: {name, blob, values}. Arrow streams, as POST /v1/values writes them.
export async function* files(api, results) {
  const keys = new Map();
  for (const { feature, key, state, unit } of results) {
    if (state !== "ready" || !key || unit?.each) continue;
    if (!keys.has(feature)) keys.set(feature, new Set());
    keys.get(feature).add(key);
  }
  for (const [feature, its] of keys) {
    const all = [...its];
    for (let at = 0; at < all.length; at += KEYS) {
      const part = all.slice(at, at + KEYS);
      const answer = await api.call("v1/values", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ keys: part }),
      });
      const number = all.length > KEYS ? `-${at / KEYS + 1}` : "";
      yield { name: `${feature}${number}.arrow`, blob: await answer.blob(), values: part.length };
    }
  }
}
