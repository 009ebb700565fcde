// All assets that fit a filter, page after page in the background, so that a scroll bar tells the truth.
//
// Of each is kept what a tile shows: some 200 bytes, so 100,000 take 20 MB.

import { nameOf } from "./words.js";

const PAGE = 1000;

export class Listing {
  // `filter` has what `GET /v1/assets` takes; `onMore(listing)` is called after each page.
  constructor(api, filter) {
    Object.assign(this, { entries: [], done: false, error: null, onMore: () => {} });
    this.stopped = new AbortController();
    this.#load(api, filter);
  }

  stop() {
    this.stopped.abort();
  }

  async #load(api, filter) {
    let cursor = null;
    try {
      do {
        const query = new URLSearchParams({ ...filter, limit: PAGE, ...(cursor && { cursor }) });
        const page = await api.json(`v1/assets?${query}`, { signal: this.stopped.signal });
        for (const asset of page.assets) this.entries.push(kept(asset));
        cursor = page.cursor;
        this.done = cursor === null;
        this.onMore(this);
      } while (cursor !== null);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
      this.onMore(this);
    }
  }
}

function kept({ id, uri, media_type, bytes, duration, streams }) {
  const picture = streams.find((one) => one.kind === "video" && one.chosen !== false && one.width);
  return {
    id, uri, bytes, duration,
    name: nameOf(uri),
    kind: media_type.split("/")[0],
    size: picture ? `${picture.width} × ${picture.height}` : "",
  };
}

// The folder that all entries, which are sorted, are in; and what is in it: {name, path, count}.
export function foldersOf(entries) {
  if (!entries.length) return { common: "", folders: [] };
  const [first, last] = [entries[0].uri, entries.at(-1).uri];
  let same = 0;
  while (same < first.length && first[same] === last[same]) same++;
  const common = first.slice(0, first.lastIndexOf("/", same - 1) + 1);
  const folders = new Map();
  for (const { uri } of entries) {
    const end = uri.indexOf("/", common.length);
    if (end < 0) continue;
    const path = uri.slice(0, end + 1);
    folders.set(path, (folders.get(path) ?? 0) + 1);
  }
  return {
    common,
    folders: [...folders].map(([path, count]) => ({ name: nameOf(path), path, count })),
  };
}
