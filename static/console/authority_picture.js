// The picture: a row per symbol, a bar per tenure, drawn on one canvas that stays in sight while its rows scroll under it.

import { colourOf, setVar } from "./dom.js";
import { edge, isRunning, past, rangeMs, spansOf } from "./authority_past.js";

const LANE_PX = 16; // a line of labels of births and deaths
const LANES = 2;
const AXIS_PX = 20;
export const HEAD_PX = LANES * LANE_PX + AXIS_PX + 4;
const EDGE_PX = 14; // to the right of now
const ROW_PX = { roomy: [18, 28], dense: [3, 14] };
const ROOMY_MAX = 60; // more rows than that are dense unless asked otherwise
const NAME_PX = 12; // the least height that a name needs
const GAP_PX = 3; // a gap after a loss is drawn at least as wide
const NEAR_PX = 6; // what the pointer is near enough to
const CLUSTER_PX = 26; // births and deaths closer than that share a label
const STEPS_S = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600];
const STEP_PX = 84;
const PLANNED = new Set(["released", "drained", "ended_by_operator"]);
const VERBS = { released: "left", drained: "drained", expired: "expired", session_lost: "lost", ended_by_operator: "ended" };
const FONT = "Inter, system-ui, sans-serif";
const light = window.matchMedia("(prefers-color-scheme: light)");

export class Picture {
  names = [];
  dense = null; // null: by the number of rows
  focus = null; // {symbol, from}: the span that is told of
  pointer = null; // {x, y}

  constructor(frame, canvas, sheet) {
    [this.frame, this.canvas, this.sheet] = [frame, canvas, sheet];
    this.ctx = canvas.getContext("2d", { alpha: false });
    this.marks = [];
    this.asked = false;
    this.paintedTo = 0;
    new ResizeObserver(() => this.resize()).observe(frame);
    window.addEventListener("resize", () => this.resize()); // also when the screen's density changes
    light.addEventListener("change", () => this.recolour());
    frame.addEventListener("scroll", () => this.ask(), { passive: true });
    document.fonts?.ready.then(() => this.resize());
    this.recolour();
  }

  /** Paint soon: once for all that asked meanwhile. */
  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  /** Paint only if now has moved on by half a dot of the screen. */
  tick() {
    const to = edge();
    if (to !== null && (to - this.paintedTo) * this.scale * this.ratio >= 0.5) this.ask();
  }

  show(names) {
    this.names = names;
    this.resize();
  }

  isDense() {
    return this.dense ?? this.names.length > ROOMY_MAX;
  }

  resize() {
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    if (!width || !height) return;
    this.ratio = window.devicePixelRatio || 1;
    const dots = [Math.round(width * this.ratio), Math.round(height * this.ratio)];
    if (this.canvas.width !== dots[0] || this.canvas.height !== dots[1]) [this.canvas.width, this.canvas.height] = dots;
    setVar(this.canvas, "width", `${width}px`);
    setVar(this.canvas, "height", `${height}px`);
    [this.width, this.height] = [width, height];
    const [least, most] = ROW_PX[this.isDense() ? "dense" : "roomy"];
    const fair = Math.floor((height - HEAD_PX) / Math.max(1, this.names.length));
    this.row = Math.max(least, Math.min(most, fair));
    setVar(this.sheet, "height", `${Math.max(0, HEAD_PX + this.names.length * this.row - height)}px`);
    this.ctx.font = `500 11px ${FONT}`;
    const widest = Math.max(32, ...this.names.map((name) => this.ctx.measureText(name).width));
    this.gutter = Math.ceil(Math.min(widest, width * 0.25)) + 20;
    this.ask();
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = {};
    for (const name of ["panel", "ground", "raised", "line", "edge", "text", "soft", "strong", "warn", "down", "up", "accent"]) {
      this.colours[name] = colour(name);
    }
    this.nodes = Array.from({ length: 8 }, (_, i) => colour(`n${i}`));
    this.inks = this.nodes.map(inkOn);
    this.hatched = null;
    this.ask();
  }

  // Where things are

  x(at) {
    const dots = (this.gutter + (at - this.left) * this.scale) * this.ratio;
    return Math.round(dots) / this.ratio;
  }

  y(index) {
    return HEAD_PX + index * this.row - this.frame.scrollTop;
  }

  /** What is at a point of the canvas: {symbol, span, at}, {mark}, or nothing. */
  at({ x, y }) {
    if (past.now === null || this.scale === undefined || x < 0 || x > this.width) return null;
    if (y < HEAD_PX) {
      const mark = this.marks.reduce((best, it) => (!best || Math.abs(it.x - x) < Math.abs(best.x - x) ? it : best), null);
      return mark && Math.abs(mark.x - x) <= 2 * NEAR_PX ? { mark } : null;
    }
    const symbol = this.names[Math.floor((y - HEAD_PX + this.frame.scrollTop) / this.row)];
    if (!symbol) return null;
    const at = Math.min(this.right, this.left + Math.max(0, x - this.gutter) / this.scale);
    return { symbol, at, span: this.spanAt(symbol, at) };
  }

  /** The span at a moment; a short one nearby that the pointer can hardly hit goes first. */
  spanAt(symbol, at) {
    const near = NEAR_PX / this.scale;
    let found = null;
    for (const span of spansOf(symbol, this.left, this.right)) {
      const to = span.to ?? this.right;
      if (span.from <= at && at <= to) found ??= span;
      if (to - span.from < near && at > span.from - near / 2 && at < to + near / 2) return span;
    }
    return found;
  }

  /** The span that is told of, as it is now; where it has gone, what is there instead. */
  focused() {
    if (!this.focus || this.scale === undefined) return null;
    const { symbol, from, at } = this.focus;
    const spans = spansOf(symbol, this.left, this.right);
    return spans.find((it) => it.from === from) ?? spans.find((it) => it.from <= at && at <= (it.to ?? this.right)) ?? null;
  }

  /** Scroll so that a symbol's row is in sight. */
  reveal(symbol) {
    const top = this.names.indexOf(symbol) * this.row;
    const room = this.height - HEAD_PX;
    if (top < this.frame.scrollTop) this.frame.scrollTop = top;
    else if (top + this.row > this.frame.scrollTop + room) this.frame.scrollTop = top + this.row - room;
  }

  rowsInSight() {
    return Math.max(1, Math.floor((this.height - HEAD_PX) / this.row));
  }

  // Painting

  paint() {
    const { ctx, colours, width, height } = this;
    if (!width || !this.gutter) return;
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.fillStyle = colours.panel;
    ctx.fillRect(0, 0, width, height);
    const right = edge();
    if (right === null) return;
    this.paintedTo = right;
    this.right = right;
    this.left = right - rangeMs();
    this.scale = Math.max(1, width - this.gutter - EDGE_PX) / rangeMs();
    const bottom = Math.min(height, this.y(this.names.length));
    ctx.textBaseline = "middle";
    this.gatherMarks();
    this.clipped(this.gutter, HEAD_PX, width - this.gutter, Math.max(0, bottom - HEAD_PX), () => {
      this.paintGrid(bottom);
      this.labels = []; // of bars and gaps, written over the lines
      this.paintRows();
      this.paintMarkLines(bottom);
      for (const write of this.labels) write();
      this.paintRefusals();
      this.paintUnread(bottom);
      this.paintFocus();
    });
    this.clipped(0, HEAD_PX, this.gutter, height - HEAD_PX, () => this.paintNames());
    this.paintHead(bottom);
    this.paintPointer(bottom);
  }

  clipped(x, y, width, height, paint) {
    this.ctx.save();
    this.ctx.beginPath();
    this.ctx.rect(x, y, width, height);
    this.ctx.clip();
    paint();
    this.ctx.restore();
  }

  inSight() {
    const first = Math.max(0, Math.floor(this.frame.scrollTop / this.row));
    return [first, Math.min(this.names.length, first + this.rowsInSight() + 2)];
  }

  ticks() {
    const enough = STEP_PX / this.scale / 1000;
    const step = 1000 * (STEPS_S.find((s) => s >= enough) ?? STEPS_S.at(-1));
    const zone = new Date(this.right).getTimezoneOffset() * 60000;
    const ticks = [];
    for (let at = Math.ceil((this.left - zone) / step) * step + zone; at <= this.right; at += step) ticks.push(at);
    return { ticks, step };
  }

  paintGrid(bottom) {
    this.ctx.fillStyle = this.colours.line;
    for (const at of this.ticks().ticks) this.ctx.fillRect(this.x(at), HEAD_PX, 1 / this.ratio, bottom - HEAD_PX);
  }

  paintRows() {
    const [first, last] = this.inSight();
    const inset = this.row >= 14 ? 3 : this.row >= 6 ? 1 : this.row > 3 ? 0.5 : 0;
    for (let i = first; i < last; i += 1) {
      const [y, tall] = [this.y(i) + inset, this.row - 2 * inset];
      let until = -1; // tenures that share a dot of the screen are painted once
      for (const span of spansOf(this.names[i], this.left, this.right)) {
        const from = this.x(Math.max(span.from, this.left));
        const to = this.x(Math.min(span.to ?? this.right, this.right));
        if (span.kind === "held") {
          if (to <= until) continue;
          this.paintHeld(span, Math.max(from, until), to, y, tall);
          until = to;
        } else if (span.kind === "none") this.paintNone(span, from, to, y, tall);
        else this.paintHatch(from, to, y, tall, this.colours.edge);
      }
    }
  }

  paintHeld(span, from, to, y, tall) {
    const { ctx } = this;
    const colour = Number(colourOf(span.tenure.node));
    ctx.fillStyle = this.nodes[colour];
    // A seam on the right tells two tenures of one node apart.
    const seam = span.to !== null && to - from > 3 ? 1 / this.ratio : 0;
    ctx.fillRect(from, y, Math.max(1 / this.ratio, to - from - seam), tall);
    if (tall < NAME_PX) return;
    ctx.font = `500 11px ${FONT}`;
    const wide = ctx.measureText(span.tenure.node).width;
    if (to - from < wide + 12) return;
    this.labels.push(() => {
      ctx.fillStyle = this.nodes[colour];
      ctx.fillRect(from + 4, y + 1, wide + 4, tall - 2);
      ctx.fillStyle = this.inks[colour];
      ctx.fillText(span.tenure.node, from + 6, y + tall / 2 + 0.5);
    });
  }

  paintNone(span, from, to, y, tall) {
    const { ctx, colours } = this;
    if (!span.before && span.after) return this.paintHatch(from, to, y, tall, colours.line); // not held yet: nothing was lost
    const wide = Math.max(to - from, span.before ? GAP_PX : 0);
    ctx.fillStyle = colours.panel;
    ctx.fillRect(from, y, wide, tall);
    if (wide > GAP_PX) this.paintHatch(from, from + wide, y, tall, colours.warn);
    const lost = span.before && !PLANNED.has(span.before.reason);
    ctx.fillStyle = lost ? colours.down : colours.warn;
    if (span.before) ctx.fillRect(from, y - (tall > 6 ? 1 : 0), Math.min(2, wide), tall + (tall > 6 ? 2 : 0));
    if (wide <= GAP_PX || tall < NAME_PX) return undefined;
    ctx.font = `500 11px ${FONT}`;
    const label = "nobody";
    const room = ctx.measureText(label).width + 10;
    if (wide < room + 8) return undefined;
    return this.labels.push(() => {
      ctx.fillStyle = colours.panel;
      ctx.fillRect(from + 4, y + 1, room, tall - 2);
      ctx.fillStyle = colours.warn;
      ctx.fillText(label, from + 9, y + tall / 2 + 0.5);
    });
  }

  paintHatch(from, to, y, tall, colour) {
    this.ctx.fillStyle = this.hatch(colour);
    this.ctx.fillRect(from, y, Math.max(0, to - from), tall);
  }

  /** Diagonal lines, made for the dots of this screen. */
  hatch(colour) {
    if (this.hatched?.ratio !== this.ratio) this.hatched = { ratio: this.ratio };
    if (!this.hatched[colour]) {
      const size = Math.round(6 * this.ratio);
      const tile = Object.assign(document.createElement("canvas"), { width: size, height: size });
      const ctx = tile.getContext("2d");
      ctx.strokeStyle = colour;
      ctx.lineWidth = 1.4 * this.ratio;
      ctx.beginPath();
      for (const shift of [-size, 0, size]) {
        ctx.moveTo(shift - 1, size + 1);
        ctx.lineTo(shift + size + 1, -1);
      }
      ctx.stroke();
      const pattern = this.ctx.createPattern(tile, "repeat");
      pattern.setTransform(new DOMMatrix().scale(1 / this.ratio));
      this.hatched[colour] = pattern;
    }
    return this.hatched[colour];
  }

  /** A cross on the row of a write that the fence refused. Those that would lie on one another are one. */
  paintRefusals() {
    const places = new Map(this.names.map((name, i) => [name, i]));
    const seen = new Map();
    const [first, last] = this.inSight();
    const reach = Math.max(3, Math.min(5, this.row / 2 - 2));
    for (const refusal of past.refusals.values()) {
      const i = places.get(refusal.symbol);
      if (i === undefined || i < first || i >= last || refusal.at < this.left || refusal.at > this.right) continue;
      const x = this.x(refusal.at);
      if (Math.abs(x - (seen.get(i) ?? -99)) < 4) continue;
      seen.set(i, x);
      this.paintCross(x, this.y(i) + this.row / 2, reach);
    }
  }

  paintCross(x, y, reach) {
    const { ctx, colours } = this;
    ctx.beginPath();
    ctx.moveTo(x - reach, y - reach);
    ctx.lineTo(x + reach, y + reach);
    ctx.moveTo(x + reach, y - reach);
    ctx.lineTo(x - reach, y + reach);
    ctx.lineCap = "round";
    ctx.strokeStyle = colours.panel;
    ctx.lineWidth = 5;
    ctx.stroke();
    ctx.strokeStyle = colours.strong;
    ctx.lineWidth = 1.8;
    ctx.stroke();
  }

  /** What has not been read: before what was asked for, while a longer range is on its way, or left out. */
  paintUnread(bottom) {
    if (past.since === null || past.since <= this.left + 1000) return;
    const to = Math.min(this.x(past.since), this.width - EDGE_PX);
    this.ctx.fillStyle = this.colours.panel;
    this.ctx.fillRect(this.gutter, HEAD_PX, to - this.gutter, bottom - HEAD_PX);
    this.paintHatch(this.gutter, to, HEAD_PX, bottom - HEAD_PX, this.colours.line);
  }

  paintNames() {
    const { ctx, colours } = this;
    const [first, last] = this.inSight();
    const each = Math.max(1, Math.ceil(NAME_PX / this.row)); // where rows are lower than a name, each third or so is named
    const pointed = this.focus?.symbol;
    const place = pointed === undefined ? -each : this.names.indexOf(pointed);
    for (let i = first; i < last; i += 1) {
      const name = this.names[i];
      if (i !== place && (i % each || Math.abs(i - place) < each)) continue;
      ctx.font = `${name === pointed ? 600 : 500} ${this.row < NAME_PX ? 10 : 11}px ${FONT}`;
      ctx.fillStyle = name === pointed ? colours.strong : this.row < NAME_PX ? colours.soft : colours.text;
      ctx.fillText(name, 10, this.y(i) + this.row / 2 + 0.5, this.gutter - 14);
    }
  }

  // Births, deaths and generations

  gatherMarks() {
    this.marks = [];
    const mark = (at, mark) => at >= this.left && at <= this.right && this.marks.push({ at, x: this.x(at), ...mark });
    for (const life of past.lives.values()) {
      mark(Date.parse(life.registered_at), { kind: "birth", node: life.node, verb: "joined" });
      if (life.ended_at === null) continue;
      mark(Date.parse(life.ended_at), { kind: "death", node: life.node, reason: life.end_reason, verb: VERBS[life.end_reason] ?? "ended" });
    }
    for (const made of past.generations.values()) mark(Date.parse(made.at), { kind: "generation", made });
    this.marks.sort((a, b) => a.at - b.at);
  }

  paintMarkLines(bottom) {
    const { ctx, colours } = this;
    for (const mark of this.marks) {
      if (mark.kind === "generation") continue;
      const lost = mark.kind === "death" && !PLANNED.has(mark.reason);
      ctx.setLineDash(mark.kind === "death" ? [5, 3] : []);
      for (const [colour, wide] of [[colours.panel, 3], [lost ? colours.down : colours.strong, lost ? 2 : 1.25]]) {
        ctx.strokeStyle = colour;
        ctx.lineWidth = wide;
        ctx.beginPath();
        ctx.moveTo(mark.x, HEAD_PX);
        ctx.lineTo(mark.x, bottom);
        ctx.stroke();
      }
    }
    ctx.setLineDash([]);
  }

  paintHead(bottom) {
    const { ctx, colours, width } = this;
    const axis = LANES * LANE_PX + 2;
    const { ticks, step } = this.ticks();
    ctx.font = `400 11px ${FONT}`;
    ctx.fillStyle = colours.soft;
    const to = clock(this.right, true);
    const nowWide = ctx.measureText(to).width;
    const nowFrom = Math.min(width - nowWide - 4, this.x(this.right) - nowWide / 2);
    for (const at of ticks) {
      const text = clock(at, step < 60000);
      const wide = ctx.measureText(text).width;
      const from = this.x(at) - wide / 2;
      if (from < 4 || from + wide > nowFrom - 8) continue;
      ctx.fillText(text, from, axis + AXIS_PX / 2);
    }
    ctx.fillStyle = isRunning() ? colours.text : colours.warn;
    ctx.font = `600 11px ${FONT}`;
    ctx.fillText(to, Math.min(nowFrom, width - ctx.measureText(to).width - 4), axis + AXIS_PX / 2);
    ctx.fillStyle = colours.edge;
    ctx.fillRect(0, HEAD_PX - 1 / this.ratio, width, 1 / this.ratio);
    ctx.fillStyle = isRunning() ? colours.edge : colours.warn;
    ctx.fillRect(this.x(this.right), HEAD_PX - 4, 1, bottom - HEAD_PX + 4);
    this.paintMarkLabels();
    for (const mark of this.marks) this.paintGlyph(mark);
  }

  /** A triangle up for a birth, down for a death, a small diamond for a generation, on the line under the times. */
  paintGlyph(mark) {
    const { ctx, colours } = this;
    const y = HEAD_PX - 1;
    ctx.beginPath();
    if (mark.kind === "generation") {
      for (const [dx, dy] of [[0, -4], [3, -1], [0, 2], [-3, -1]]) ctx.lineTo(mark.x + dx, y + dy);
      ctx.fillStyle = colours.soft;
    } else {
      const up = mark.kind === "birth";
      for (const [dx, dy] of up ? [[-5, 0], [5, 0], [0, -8]] : [[-5, -8], [5, -8], [0, 0]]) ctx.lineTo(mark.x + dx, y + dy);
      ctx.fillStyle = this.nodes[Number(colourOf(mark.node))];
    }
    ctx.closePath();
    ctx.strokeStyle = colours.panel;
    ctx.lineWidth = 2;
    ctx.stroke();
    ctx.fill();
  }

  /** Newest first, each into the first line that has room; what has none keeps its mark, and the list beside tells it. */
  paintMarkLabels() {
    const { ctx, colours, width } = this;
    const clusters = [];
    for (const mark of this.marks) {
      if (mark.kind === "generation") continue;
      const last = clusters.at(-1);
      if (last && mark.x - last.x < CLUSTER_PX) last.marks.push(mark);
      else clusters.push({ x: mark.x, marks: [mark] });
    }
    const taken = Array(LANES).fill(width - 2);
    ctx.font = `500 11px ${FONT}`;
    for (const { x, marks } of clusters.reverse()) {
      const text = told(marks);
      const wide = ctx.measureText(text).width;
      const lost = marks.some((mark) => mark.kind === "death" && !PLANNED.has(mark.reason));
      for (let lane = LANES - 1; lane >= 0; lane -= 1) {
        const from = Math.max(4, Math.min(x - 5, taken[lane] - wide - 8));
        if (from + wide + 8 > taken[lane] || from + wide < x - 5) continue;
        const y = 1 + lane * LANE_PX + LANE_PX / 2;
        ctx.fillStyle = colours.edge;
        ctx.fillRect(x, y + 6, 1 / this.ratio, HEAD_PX - y - 14);
        ctx.fillStyle = lost ? colours.down : colours.text;
        ctx.fillText(text, from, y + 1);
        taken[lane] = from - 4;
        break;
      }
    }
  }

  // What is told of

  paintFocus() {
    const i = this.focus ? this.names.indexOf(this.focus.symbol) : -1;
    if (i < 0) return;
    const { ctx, colours } = this;
    const span = this.focused();
    if (!span) return;
    const from = this.x(Math.max(span.from, this.left));
    const to = Math.max(from + 3, this.x(span.to ?? this.right));
    const grow = this.row < 8 ? 2 : 0;
    for (const [colour, wide] of [[colours.panel, 4.5], [colours.strong, 2]]) {
      ctx.strokeStyle = colour;
      ctx.lineWidth = wide;
      ctx.strokeRect(from, this.y(i) - grow + 1, to - from, this.row + 2 * grow - 2);
    }
  }

  paintPointer(bottom) {
    if (!this.pointer || this.pointer.x < this.gutter || this.pointer.x > this.x(this.right)) return;
    const { ctx, colours, width } = this;
    const x = this.pointer.x;
    ctx.fillStyle = colours.soft;
    ctx.fillRect(Math.round(x * this.ratio) / this.ratio, HEAD_PX, 1 / this.ratio, bottom - HEAD_PX);
    const text = clock(this.left + (x - this.gutter) / this.scale, true);
    ctx.font = `500 11px ${FONT}`;
    const wide = ctx.measureText(text).width;
    const from = Math.max(2, Math.min(x - wide / 2 - 6, width - wide - 14));
    ctx.fillStyle = colours.raised;
    ctx.fillRect(from, LANES * LANE_PX + 3, wide + 12, AXIS_PX - 2);
    ctx.fillStyle = colours.text;
    ctx.fillText(text, from + 6, LANES * LANE_PX + 2 + AXIS_PX / 2);
  }
}

function told(marks) {
  const verbs = new Map();
  for (const { verb, node } of marks) verbs.set(verb, (verbs.get(verb) ?? new Set()).add(node));
  const named = [...verbs].map(([verb, nodes]) => [verb, [...nodes]]);
  return named.map(([verb, nodes]) => `${nodes.length > 2 ? `${nodes.length} nodes` : nodes.join(", ")} ${verb}`).join(" · ");
}

const clocks = [false, true].map((seconds) =>
  new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined }),
);
function clock(at, seconds) {
  return clocks[Number(seconds)].format(at);
}

/** Black or white, whichever is read more easily on a colour: one of them always has a contrast of 4.5 or more. */
function inkOn(colour) {
  const [r, g, b] = (/^#(..)(..)(..)$/.exec(colour)?.slice(1) ?? ["80", "80", "80"])
    .map((hex) => parseInt(hex, 16) / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}
