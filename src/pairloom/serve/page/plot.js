// Points on a canvas that is zoomed and moved. It knows places and colours; what the points mean, its user knows.

const NEAR_PX = 14;
const CLICK_PX = 5;
const MAX_ZOOM = 60;
const MARGIN = 0.92;
const STEP_PX = 60;
const ZOOM_STEP = 1.5;
// A notch of a wheel is about 100 px, a trackpad's steps are far smaller; no step makes one lose the place.
const WHEEL = 0.0025;
const WHEEL_MOST = 0.5;

export class Plot {
  #canvas;
  #calls;
  #points = [];
  #zoom = 1;
  #centre = { x: 0, y: 0 }; // what lies in the middle, in the points' coordinates
  #chosen = null;
  #fingers = new Map();
  #travelled_px = 0;
  #frame = null;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onChoose: (point, place) => void, onOpen: (point) => void, onView: () => void}} calls
   */
  constructor(canvas, calls) {
    this.#canvas = canvas;
    this.#calls = calls;
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.#listenToPointers();
    this.#listenToKeys();
  }

  /** @param {{x: number, y: number, colour: string, size: number, dim: boolean, ring: boolean}[]} points */
  set points(points) {
    this.#points = points;
    this.draw();
  }

  /** The points that are in view, those in the middle first. */
  inView() {
    const { width, height } = this.#size();
    return this.#points
      .map((point) => ({ point, at: this.#at(point) }))
      .filter(({ at }) => at.x >= 0 && at.y >= 0 && at.x <= width && at.y <= height)
      .map(({ point, at }) => ({ point, distance: Math.hypot(at.x - width / 2, at.y - height / 2) }))
      .sort((a, b) => a.distance - b.distance)
      .map(({ point }) => point);
  }

  zoomIn() {
    this.#zoomAt(ZOOM_STEP);
  }

  zoomOut() {
    this.#zoomAt(1 / ZOOM_STEP);
  }

  showAll() {
    this.#zoom = 1;
    this.#centre = { x: 0, y: 0 };
    this.#moved();
  }

  draw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#paint();
    });
  }

  #paint() {
    const { width, height } = this.#size();
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.#canvas.width !== across || this.#canvas.height !== down) Object.assign(this.#canvas, { width: across, height: down });
    const brush = this.#canvas.getContext("2d");
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.clearRect(0, 0, width, height);
    const ink = getComputedStyle(this.#canvas).color;
    const grown = Math.min(2.2, this.#zoom ** 0.35);
    // What matters most is painted last.
    const rank = (point) => (point === this.#chosen ? 2 : point.ring ? 1 : 0);
    for (const point of [...this.#points].sort((a, b) => rank(a) - rank(b))) {
      const { x, y } = this.#at(point);
      const radius = point.size * grown + (point === this.#chosen ? 2 : 0);
      if (x < -radius || y < -radius || x > width + radius || y > height + radius) continue;
      brush.globalAlpha = point.dim ? 0.25 : 0.85;
      brush.fillStyle = point.colour;
      brush.beginPath();
      brush.arc(x, y, radius, 0, 2 * Math.PI);
      brush.fill();
      if (!point.ring && point !== this.#chosen) continue;
      brush.globalAlpha = 1;
      brush.strokeStyle = ink;
      brush.lineWidth = point === this.#chosen ? 2 : 1.5;
      brush.beginPath();
      brush.arc(x, y, radius + 2.5, 0, 2 * Math.PI);
      brush.stroke();
    }
    brush.globalAlpha = 1;
  }

  #size() {
    return { width: this.#canvas.clientWidth, height: this.#canvas.clientHeight };
  }

  #scale() {
    const { width, height } = this.#size();
    return (Math.min(width, height) / 2) * MARGIN * this.#zoom;
  }

  /** Where a point lies, in pixels; a wide window shows a wide map. */
  #at(point) {
    const { width, height } = this.#size();
    const scale = this.#scale();
    return {
      x: width / 2 + (point.x - this.#centre.x) * scale * this.#stretch(),
      y: height / 2 - (point.y - this.#centre.y) * scale,
    };
  }

  #stretch() {
    const { width, height } = this.#size();
    return Math.max(1, Math.min(2, width / height));
  }

  #move(dx, dy) {
    const scale = this.#scale();
    this.#centre.x = clamp(this.#centre.x - dx / scale / this.#stretch(), -1, 1);
    this.#centre.y = clamp(this.#centre.y + dy / scale, -1, 1);
    this.#moved();
  }

  /** Zooms so that what lies under a place stays there; the middle if no place is given. */
  #zoomAt(factor, place) {
    const { width, height } = this.#size();
    const [dx, dy] = place ? [place.x - width / 2, place.y - height / 2] : [0, 0];
    const before = this.#scale();
    this.#zoom = clamp(this.#zoom * factor, 1, MAX_ZOOM);
    const gained = 1 / before - 1 / this.#scale();
    this.#centre.x = clamp(this.#centre.x + (dx * gained) / this.#stretch(), -1, 1);
    this.#centre.y = clamp(this.#centre.y - dy * gained, -1, 1);
    this.#moved();
  }

  #moved() {
    this.draw();
    this.#calls.onView();
  }

  #choose(point) {
    if (point !== this.#chosen) {
      this.#chosen = point;
      this.draw();
    }
    this.#calls.onChoose(point, point && this.#at(point));
  }

  #nearest(place, limit_px) {
    let found = null;
    let least = limit_px;
    for (const point of this.#points) {
      const at = this.#at(point);
      const distance = Math.hypot(at.x - place.x, at.y - place.y);
      if (distance < least) [found, least] = [point, distance];
    }
    return found;
  }

  #listenToPointers() {
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      if (this.#fingers.size === 0) this.#travelled_px = 0;
      this.#fingers.set(event.pointerId, place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.#fingers.has(event.pointerId)) this.#drag(event);
      else if (event.pointerType !== "touch") this.#choose(this.#nearest(place(event), NEAR_PX));
    });
    canvas.addEventListener("pointerup", (event) => {
      const wasOne = this.#fingers.size === 1;
      this.#fingers.delete(event.pointerId);
      if (wasOne && this.#travelled_px <= CLICK_PX) this.#click(event);
    });
    canvas.addEventListener("pointercancel", (event) => {
      this.#fingers.delete(event.pointerId);
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") this.#choose(null);
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const delta = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1);
      this.#zoomAt(Math.exp(clamp(-delta * WHEEL, -WHEEL_MOST, WHEEL_MOST)), place(event));
      this.#choose(null);
    }, { passive: false });
  }

  #drag(event) {
    const before = [...this.#fingers.values()];
    const from = this.#fingers.get(event.pointerId);
    const to = place(event);
    this.#travelled_px += Math.hypot(to.x - from.x, to.y - from.y);
    this.#fingers.set(event.pointerId, to);
    if (this.#travelled_px <= CLICK_PX) return;
    this.#choose(null);
    const after = [...this.#fingers.values()];
    if (after.length === 2) {
      this.#zoomAt(between(...after) / Math.max(1, between(...before)), middle(...after));
      const [old, now] = [middle(...before), middle(...after)];
      this.#move(now.x - old.x, now.y - old.y);
    } else {
      this.#move(to.x - from.x, to.y - from.y);
    }
  }

  #click(event) {
    const point = this.#nearest(place(event), NEAR_PX * (event.pointerType === "touch" ? 1.6 : 1));
    // A finger does not hover: its first tap shows the text, its second opens.
    if (point && (event.pointerType !== "touch" || point === this.#chosen)) this.#calls.onOpen(point);
    else this.#choose(point);
  }

  #listenToKeys() {
    this.#canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = {
        ArrowLeft: () => this.#move(STEP_PX, 0),
        ArrowRight: () => this.#move(-STEP_PX, 0),
        ArrowUp: () => this.#move(0, STEP_PX),
        ArrowDown: () => this.#move(0, -STEP_PX),
        "+": () => this.zoomIn(),
        "=": () => this.zoomIn(),
        "-": () => this.zoomOut(),
        0: () => this.showAll(),
        Enter: () => this.#chosen && this.#calls.onOpen(this.#chosen),
        Escape: () => this.#choose(null),
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
      if (event.key !== "Enter" && event.key !== "Escape") this.#chooseMiddle();
    });
    this.#canvas.addEventListener("focus", () => {
      if (this.#canvas.matches(":focus-visible")) this.#chooseMiddle();
    });
    this.#canvas.addEventListener("blur", () => this.#choose(null));
  }

  #chooseMiddle() {
    const { width, height } = this.#size();
    this.#choose(this.#nearest({ x: width / 2, y: height / 2 }, Math.max(width, height)));
  }
}

const place = (event) => ({ x: event.offsetX, y: event.offsetY });
const between = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
const clamp = (value, least, most) => Math.max(least, Math.min(most, value));
