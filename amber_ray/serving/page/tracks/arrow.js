// Arrow IPC streams, as `POST /v1/values` answers: rows of values, numbers as typed arrays.
//
// A reader of what Amber writes and no more: no dictionaries, no compression, little-endian. Apache's own has 200 KB.
// The format is "Arrow Columnar Format" of its documentation; field numbers are those of Schema.fbs and Message.fbs.
//
// An array of numbers of any shape comes as a Grid; whoever keeps one keeps no other byte of the answer.

export class Grid {
  constructor(data, shape) {
    Object.assign(this, { data, shape });
  }

  get width() {
    return this.shape.slice(1).reduce((a, b) => a * b, 1);
  }
}

const TYPE = {
  null: 1, int: 2, float: 3, binary: 4, text: 5, bool: 6, timestamp: 10, list: 12, struct: 13, fixed: 16,
  largeBinary: 19, largeText: 20, largeList: 21,
};
const SCHEMA = 1, BATCH = 3;
const LONGS = new Set([TYPE.largeBinary, TYPE.largeText, TYPE.largeList]);
const utf8 = new TextDecoder();

// Yields the rows of each stream in the bytes, one stream after the other, as objects by column.
export function* rows(buffer) {
  const view = new DataView(buffer);
  let at = 0, fields = [];
  while (at + 8 <= view.byteLength) {
    if (view.getUint32(at, true) !== 0xffffffff) throw new Error("the values came in no Arrow stream");
    const length = view.getInt32(at + 4, true);
    at += 8;
    if (!length) continue; // a stream's end; another one may follow
    const message = root(view, at);
    const body = at + length, kind = message.u8(1), header = message.table(2);
    at = body + message.i64(3);
    if (at > view.byteLength) throw new Error("the values were cut off on their way");
    if (kind === SCHEMA) fields = header.tables(1).map(field);
    if (kind === BATCH) yield* batch(header, fields, buffer, body);
  }
}

function* batch(header, fields, buffer, body) {
  if (header.has(3)) throw new Error("the values are compressed, which this page can't read");
  const nodes = header.structs(1, 16), buffers = header.structs(2, 16);
  let node = 0, next = 0;
  const source = {
    buffer,
    node: () => ({ length: nodes.i64(node), nulls: nodes.i64(node++, 8) }),
    bytes: () => ({ at: body + buffers.i64(next), length: buffers.i64(next++, 8) }),
  };
  const columns = fields.map((one) => [one.name, column(one, source)]);
  const count = header.i64(0);
  for (let i = 0; i < count; i++) yield Object.fromEntries(columns.map(([name, get]) => [name, get.one(i)]));
}

// --- flatbuffers, of which only tables, vectors and texts are met

function root(view, at) {
  return new Table(view, at + view.getUint32(at, true));
}

class Table {
  constructor(view, at) {
    Object.assign(this, { view, at, fields: at - view.getInt32(at, true) });
  }

  place(n) {
    const slot = 4 + 2 * n;
    const offset = slot < this.view.getUint16(this.fields, true) ? this.view.getUint16(this.fields + slot, true) : 0;
    return offset && this.at + offset;
  }

  has(n) {
    return this.place(n) > 0;
  }

  u8(n, usual = 0) {
    const at = this.place(n);
    return at ? this.view.getUint8(at) : usual;
  }

  i16(n) {
    const at = this.place(n);
    return at ? this.view.getInt16(at, true) : 0;
  }

  i32(n) {
    const at = this.place(n);
    return at ? this.view.getInt32(at, true) : 0;
  }

  i64(n) {
    const at = this.place(n);
    return at ? Number(this.view.getBigInt64(at, true)) : 0;
  }

  follow(n) {
    const at = this.place(n);
    return at ? at + this.view.getUint32(at, true) : 0;
  }

  table(n) {
    const at = this.follow(n);
    return at ? new Table(this.view, at) : null;
  }

  text(n) {
    const at = this.follow(n);
    return at ? utf8.decode(new Uint8Array(this.view.buffer, at + 4, this.view.getUint32(at, true))) : "";
  }

  tables(n) {
    const at = this.follow(n), found = [];
    const count = at ? this.view.getUint32(at, true) : 0;
    for (let i = 0; i < count; i++) found.push(root(this.view, at + 4 + 4 * i));
    return found;
  }

  structs(n, size) {
    const at = this.follow(n);
    return { i64: (i, offset = 0) => Number(this.view.getBigInt64(at + 4 + size * i + offset, true)) };
  }
}

function field(table) {
  const kind = table.u8(2), type = table.table(3);
  const one = { name: table.text(0), kind, children: table.tables(5).map(field) };
  if (kind === TYPE.int) Object.assign(one, { bits: type.i32(0), signed: type.u8(1) > 0 });
  if (kind === TYPE.float) one.precision = type.i16(0);
  if (kind === TYPE.fixed) one.size = type.i32(0);
  return one;
}

// --- columns: `one(i)` is a row, `many(a, b)` are rows as a list or a Grid

function column(one, source) {
  const node = source.node();
  if (one.kind === TYPE.null) return many(() => null);
  const valid = bits(source);
  const there = (i) => !node.nulls || valid(i);
  const made = content(one, source, node);
  const get = (i) => (there(i) ? made.one(i) : null);
  return node.nulls || !made.many ? many(get) : { one: get, many: made.many };
}

function many(get) {
  return { one: get, many: (a, b) => Array.from({ length: b - a }, (_, i) => get(a + i)) };
}

function bits(source) {
  const { at, length } = source.bytes();
  const bytes = new Uint8Array(source.buffer, at, length);
  return (i) => ((bytes[i >> 3] >> (i & 7)) & 1) > 0;
}

function content(one, source, node) {
  switch (one.kind) {
    case TYPE.bool:
      return { one: bits(source) };
    case TYPE.int:
    case TYPE.float:
    case TYPE.timestamp:
      return numbers(one, source, node);
    case TYPE.text:
    case TYPE.largeText:
    case TYPE.binary:
    case TYPE.largeBinary:
      return bytes(one, source, node);
    case TYPE.list:
    case TYPE.largeList: {
      const ends = offsets(one, source, node), item = column(one.children[0], source);
      return { one: (i) => item.many(ends(i), ends(i + 1)) };
    }
    case TYPE.fixed: {
      const item = column(one.children[0], source), { size } = one;
      const cut = (a, b) => item.many(a * size, b * size);
      return { one: (i) => cut(i, i + 1), many: (a, b) => folded(cut(a, b), b - a, size) };
    }
    case TYPE.struct: {
      const parts = one.children.map((child) => [child.name, column(child, source)]);
      return { one: (i) => grid(Object.fromEntries(parts.map(([name, part]) => [name, part.one(i)]))) };
    }
  }
  throw new Error(`values have a column of a type that this page can't read (${one.kind})`);
}

const ARRAYS = { 8: [Uint8Array, Int8Array], 16: [Uint16Array, Int16Array], 32: [Uint32Array, Int32Array], 64: [BigUint64Array, BigInt64Array] };

function numbers(one, source, node) {
  const { at, length } = source.bytes();
  const of = one.kind === TYPE.float ? [Uint16Array, Float32Array, Float64Array][one.precision]
    : one.kind === TYPE.timestamp ? BigInt64Array : ARRAYS[one.bits][Number(one.signed)];
  const data = typed(of, source.buffer, at, length ? node.length : 0);
  return {
    one: (i) => (typeof data[i] === "bigint" ? Number(data[i]) : data[i]),
    many: (a, b) => new Grid(data.slice(a, b), [b - a]),
  };
}

// Numbers at a place in the bytes; copied where the place is not one that the processor can read from.
function typed(of, buffer, at, count) {
  if (at % of.BYTES_PER_ELEMENT) return new of(buffer.slice(at, at + count * of.BYTES_PER_ELEMENT));
  return new of(buffer, at, count);
}

function offsets(one, source, node) {
  const { at, length } = source.bytes();
  const of = LONGS.has(one.kind) ? BigInt64Array : Int32Array;
  const data = typed(of, source.buffer, at, length ? node.length + 1 : 0);
  return (i) => (data.length ? Number(data[i]) : 0);
}

function bytes(one, source, node) {
  const ends = offsets(one, source, node), { at } = source.bytes();
  const isText = one.kind === TYPE.text || one.kind === TYPE.largeText;
  return {
    one(i) {
      const cut = new Uint8Array(source.buffer, at + ends(i), ends(i + 1) - ends(i));
      return isText ? utf8.decode(cut) : cut.slice();
    },
  };
}

// Lists of one length in a list are one array with a dimension more.
function folded(items, count, size) {
  if (items instanceof Grid) return new Grid(items.data, [count, size, ...items.shape.slice(1)]);
  return Array.from({ length: count }, (_, i) => items.slice(i * size, (i + 1) * size));
}

const DTYPES = {
  u1: Uint8Array, i1: Int8Array, b1: Uint8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array, i4: Int32Array,
  u8: BigUint64Array, i8: BigInt64Array, f4: Float32Array, f8: Float64Array,
};

// An array whose shape is written beside its elements (`store.arrays`) is that array.
function grid(value) {
  const names = Object.keys(value).join();
  if (names !== "shape,data" && names !== "dtype,shape,data") return value;
  const shape = Array.from(value.shape.data ?? value.shape, Number);
  if (value.data instanceof Grid) return new Grid(value.data.data, shape);
  const of = DTYPES[(value.dtype ?? "|u1").slice(1)];
  return of ? new Grid(new of(value.data.buffer), shape) : value;
}
