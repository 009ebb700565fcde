// A still image: zoomed by the wheel, by keys and by two fingers, moved by dragging; boxes stand on it.

const MOST = 40;

export class Still {
  constructor(frame, { onPlace }) {
    Object.assign(this, { frame, onPlace, scale: 1, x: 0, y: 0 });
    this.pointers = new Map();
    frame.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) * (event.ctrlKey ? 0.01 : 0.003)), ...this.inside(event));
    }, { passive: false });
    frame.addEventListener("pointerdown", (event) => {
      frame.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    frame.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    frame.addEventListener("dblclick", () => this.reset());
  }

  inside(event) {
    const box = this.frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) {
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      const box = this.frame.getBoundingClientRect();
      this.zoom(apart(now) / (apart(before) || 1), (now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top);
      return;
    }
    this.x += now[0] - before[0];
    this.y += now[1] - before[1];
    this.put();
  }

  zoom(factor, x = this.frame.clientWidth / 2, y = this.frame.clientHeight / 2) {
    const scale = Math.min(MOST, Math.max(1, this.scale * factor)), by = scale / this.scale;
    this.x = x - (x - this.x) * by;
    this.y = y - (y - this.y) * by;
    this.scale = scale;
    this.put();
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.put();
  }

  put() {
    const wide = this.frame.clientWidth, high = this.frame.clientHeight;
    this.x = Math.min(0, Math.max(wide * (1 - this.scale), this.x));
    this.y = Math.min(0, Math.max(high * (1 - this.scale), this.y));
    const image = this.frame.querySelector("img");
    if (image) image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.onPlace();
  }
}
