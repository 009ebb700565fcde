// A clock with a picture or a sound: plays, stops, goes backward, and steps from picture to picture.
//
// Where nothing can be played the clock still goes where it is told, so that tracks can be looked at.

const PATIENCE = 250; // ms that a seek is waited for: what is not there yet may take long, and nobody wants it any more
const NUDGE = 0.0005; // a seek to the very beginning of a picture may show the one before it, by rounding

export class Player {
  constructor(media, { duration, frame, onTime, onState }) {
    Object.assign(this, { media, duration, frame, onTime, onState });
    this.rate = 0;
    this.alone = 0; // the time, where nothing plays
    this.wanted = null; // a seek that waits for the one under way
    this.last = -Infinity; // when one was made
    this.loop = 0;
    this.off = new AbortController();
    const on = (names, heard) => names.split(" ").forEach((name) => media?.addEventListener(name, heard, { signal: this.off.signal }));
    on("timeupdate seeking loadeddata", () => this.tell());
    on("seeked", () => {
      if (this.wanted !== null) this.put(this.wanted);
      this.tell();
    });
    on("play playing pause ended ratechange", () => this.changed());
  }

  get time() {
    return this.wanted ?? (this.media ? this.media.currentTime : this.alone);
  }

  get playing() {
    return this.rate < 0 || Boolean(this.media && !this.media.paused && !this.media.ended);
  }

  // Goes to a time. While one seek is under way the next waits a moment, and only the last of those that wait is made.
  seek(time) {
    const to = Math.min(Math.max(0, time), this.duration);
    const left = PATIENCE - (performance.now() - this.last);
    if (this.media?.seeking && left > 0) {
      this.wanted = to;
      this.waits ??= setTimeout(() => {
        this.waits = null;
        if (this.wanted !== null) this.put(this.wanted);
      }, left);
    } else this.put(to);
    this.tell();
  }

  // There is something to play: it begins where the clock was sent before that.
  began() {
    if (this.media && this.alone > 0 && this.media.currentTime === 0) this.put(this.alone);
  }

  put(time) {
    this.wanted = null;
    this.alone = time;
    this.last = performance.now();
    if (this.media) this.media.currentTime = time;
  }

  step(pictures) {
    this.stop();
    const at = Math.floor(this.time / this.frame + 0.01);
    this.seek(Math.max(0, at + pictures) * this.frame + NUDGE);
  }

  toggle() {
    if (this.playing) this.stop();
    else this.forward(1);
  }

  stop() {
    this.rate = 0;
    this.media?.pause();
    this.changed();
  }

  // Plays; once more is faster.
  faster(direction) {
    const now = this.rate < 0 ? this.rate : this.playing ? this.media.playbackRate : 0;
    const next = Math.sign(now) === direction ? Math.min(8, Math.abs(now) * 2) : 1;
    if (direction > 0) this.forward(next);
    else this.backward(next);
  }

  forward(rate) {
    if (!this.media) return;
    this.rate = 0;
    this.media.playbackRate = rate;
    // Refused where nothing can be played, and where a pause comes before it has begun: the state says both.
    this.media.play().catch(() => this.changed());
    this.run();
  }

  // No browser plays backward: the clock does, and a picture is asked for whenever the last one has come.
  backward(rate) {
    this.media?.pause();
    this.rate = -rate;
    this.from = [this.time, performance.now()];
    this.changed();
    this.run();
  }

  run() {
    cancelAnimationFrame(this.loop);
    const turn = () => {
      if (!this.playing) return;
      if (this.rate < 0) {
        const time = this.from[0] + (this.rate * (performance.now() - this.from[1])) / 1000;
        this.seek(time);
        if (time <= 0) this.stop();
      } else this.tell();
      this.loop = requestAnimationFrame(turn);
    };
    this.loop = requestAnimationFrame(turn);
  }

  tell() {
    this.onTime(this.time);
  }

  changed() {
    if (this.playing) this.run();
    this.onState();
  }

  close() {
    this.off.abort();
    clearTimeout(this.waits);
    this.rate = 0;
    cancelAnimationFrame(this.loop);
    this.media?.pause();
  }
}
