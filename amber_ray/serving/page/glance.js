// What tiles in view want to know of their assets: which features each has, and its picture.
//
// `want` and `unwant` follow the view. What is wanted for a moment only, as one scrolls past, is never asked for; what is
// asked for and not wanted any more is called off. A picture that is stored is read; those that are not are asked
// for together, as one request for some tiles, which is cancelled when none of them is in view any more.

const SETTLED_MS = 120, TOGETHER = 12, AT_ONCE = 3, READERS = 6, KEPT = 1500;

export class Glance {
  // `onKnown(id, {features, picture, note})` is called whenever more is known. `maker` is the name of the feature that
  // makes pictures, or null.
  constructor(api, maker, onKnown) {
    Object.assign(this, { api, maker, onKnown });
    this.known = new Map(); // by id, the one used last at the end
    this.wanted = new Map(); // id -> kind
    this.reading = new Map(); // id -> AbortController
    this.lacking = new Set(); // wanted pictures that nobody has made
    this.making = new Set();
    this.refused = false;
  }

  want(id, kind) {
    const found = this.known.get(id);
    if (found) {
      this.known.delete(id);
      this.known.set(id, found);
      this.onKnown(id, found);
    }
    if (!this.wanted.has(id)) this.wanted.set(id, kind);
    this.#soon();
  }

  unwant(id) {
    this.wanted.delete(id);
    this.lacking.delete(id);
    this.reading.get(id)?.abort();
    for (const batch of this.making) if (batch.ids.every((one) => !this.wanted.has(one))) batch.stop();
  }

  // What is known of an asset is out of date.
  forget(id) {
    const found = this.known.get(id);
    if (found) found.features = null;
    this.#soon();
  }

  close() {
    clearTimeout(this.timer);
    for (const id of [...this.wanted.keys()]) this.unwant(id);
    for (const { picture } of this.known.values()) if (picture) URL.revokeObjectURL(picture);
    this.known.clear();
    this.closed = true;
  }

  #soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#go(), SETTLED_MS);
  }

  #go() {
    if (this.closed) return;
    for (const [id, kind] of this.wanted) {
      if (this.reading.size >= READERS) break;
      if (!this.reading.has(id) && !this.known.get(id)?.features) this.#read(id, kind);
    }
    while (this.making.size < AT_ONCE && this.lacking.size) {
      const ids = [...this.lacking].slice(0, TOGETHER);
      for (const id of ids) this.lacking.delete(id);
      this.#make(ids);
    }
  }

  #tell(id, news) {
    if (this.closed) return;
    const found = { ...this.known.get(id), ...news };
    this.known.set(id, found);
    for (const [old, { picture }] of this.known) {
      if (this.known.size <= KEPT) break;
      if (this.wanted.has(old)) continue;
      if (picture) URL.revokeObjectURL(picture);
      this.known.delete(old);
    }
    if (this.wanted.has(id)) this.onKnown(id, found);
  }

  async #read(id, kind) {
    const stop = new AbortController();
    this.reading.set(id, stop);
    try {
      const page = await this.api.json(`v1/assets/${id}/values?limit=1000`, { signal: stop.signal });
      const features = [...new Set(page.values.map((one) => one.feature))].sort();
      this.#tell(id, { features, more: page.cursor !== null });
      if (this.known.get(id).picture || this.known.get(id).note || kind === "audio" || !this.maker) return;
      const made = page.values.find((one) => one.feature === this.maker);
      if (made) await this.#picture(id, `v1/values/${made.key}`, stop.signal);
      else if (!this.refused && this.wanted.has(id)) this.lacking.add(id);
    } catch (error) {
      if (error.name !== "AbortError") this.#tell(id, { features: [], note: error.message });
    } finally {
      this.reading.delete(id);
      this.#go();
    }
  }

  async #picture(id, href, signal) {
    const answer = await this.api.call(href, { headers: { Accept: "image/*" }, signal });
    this.#tell(id, { picture: URL.createObjectURL(await answer.blob()) });
  }

  async #make(ids) {
    const stop = new AbortController();
    let request = null;
    const batch = {
      ids,
      stop: () => {
        stop.abort();
        if (request) this.api.call(`v1/requests/${request}`, { method: "DELETE" }).catch(() => {}); // it has ended meanwhile
      },
    };
    this.making.add(batch);
    const take = async (result) => {
      if (result.state === "failed") this.#tell(result.asset, { note: result.error.message });
      else if (result.href) {
        await this.#picture(result.asset, result.href, stop.signal);
        const features = this.known.get(result.asset)?.features ?? [];
        this.#tell(result.asset, { features: [...new Set([...features, this.maker])].sort() });
      }
    };
    try {
      const question = { features: [this.maker], assets: ids.map((id) => ({ id })) };
      const view = await this.api.post("v1/compute", question, { Prefer: "wait=0" });
      request = view.state === "running" ? view.id : null;
      if (stop.signal.aborted) return batch.stop();
      const taken = view.results.filter((one) => one.state !== "pending").map(take);
      if (request) {
        for await (const [name, data] of this.api.events(`v1/requests/${request}/events`, stop.signal)) {
          if (name === "result") taken.push(take(data.result));
          if (name === "done") taken.push(...data.results.filter((one) => one.state === "failed").map(take));
        }
      }
      request = null;
      await Promise.all(taken);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 403) this.refused = true; // one that may only read is shown what there is
      for (const id of ids) this.#tell(id, { note: error.message });
    } finally {
      this.making.delete(batch);
      this.#go();
    }
  }
}
