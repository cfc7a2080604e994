// A small plot over time, drawn as SVG: scales, grid, steps, bands, marks, and the cursor that plots share.

const NS = document.querySelector("svg").namespaceURI; // the header's mark: every page has it
const RIGHT = 74; // for the scale's numbers
const LEFT = 8;
const TOP = 8;
const BOTTOM = 20; // for the times
const PER_LABEL = 32; // pixels of height that a number of the scale gets, at least

const TIME_STEPS_S = [10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600];

export function element(tag, className = "", attributes = {}) {
  const made = document.createElementNS(NS, tag);
  if (className) made.setAttribute("class", className);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Steps of 1, 2 or 5 times a power of ten, of `unit` at least. */
function niceStep(span, count, unit) {
  const raw = Math.max(span / Math.max(1, count), unit);
  const power = 10 ** Math.floor(Math.log10(raw) + 1e-9);
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= raw * (1 - 1e-9));
  return factor * power;
}

export class Plot {
  /** `bottom`: whether the times stand below it. `layers`: [name, tag] of what is drawn, lowest first. */
  constructor(id, layers, { times = true } = {}) {
    this.box = document.getElementById(id);
    this.times = times;
    this.svg = element("svg", "", { "aria-hidden": "true" });
    this.grid = element("path", "grid");
    this.labels = element("g", "labels");
    this.layers = Object.fromEntries(layers.map((name) => [name, element("path", `l-${name}`)]));
    this.cursor = element("path", "cursor");
    this.svg.append(this.grid, ...Object.values(this.layers), this.cursor, this.labels);
    this.box.append(this.svg);
    this.size();
  }

  size() {
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
  }

  /** Set the scales: from and to in milliseconds; the values that must fit; the smallest unit of the scale. */
  scale(from, to, values, { unit, around = 0 }) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low > high) [low, high] = [0, 0];
    const spare = Math.max((high - low) * 0.08, around, unit / 2);
    Object.assign(this, { from, to, low: low - spare, high: high + spare, unit });
    this.bottom = this.height - (this.times ? BOTTOM : 4);
    this.right = this.width - RIGHT;
  }

  x(at) {
    return LEFT + ((at - this.from) / (this.to - this.from)) * (this.right - LEFT);
  }

  y(value) {
    return this.bottom - ((value - this.low) / (this.high - this.low)) * (this.bottom - TOP);
  }

  at(x) {
    return this.from + ((x - LEFT) / (this.right - LEFT)) * (this.to - this.from);
  }

  /** Grid, numbers and times. `say` puts a number in words, `clock` a time that has others so many milliseconds beside it. */
  frame(say, clock) {
    const step = niceStep(this.high - this.low, (this.bottom - TOP) / PER_LABEL, this.unit);
    const labels = [];
    let grid = "";
    for (let n = Math.ceil(this.low / step); n * step <= this.high; n += 1) {
      const y = this.y(n * step).toFixed(1);
      grid += `M${LEFT} ${y}H${this.right}`;
      labels.push([this.right + 8, Number(y) + 4, say(n * step), "start"]);
    }
    const wanted = ((this.to - this.from) / 1000) * (100 / Math.max(100, this.right - LEFT));
    const every = (TIME_STEPS_S.find((seconds) => seconds >= wanted) ?? 21600) * 1000;
    const zone = new Date(this.to).getTimezoneOffset() * 60000; // on round times of the reader's clock
    for (let at = Math.ceil((this.from - zone) / every) * every + zone; at <= this.to; at += every) {
      const x = this.x(at);
      grid += `M${x.toFixed(1)} ${TOP}V${this.bottom}`;
      if (this.times && x > 24 && x < this.right - 10) labels.push([x, this.height - 6, clock(at, every), "middle"]);
    }
    this.grid.setAttribute("d", grid);
    while (this.labels.childElementCount > labels.length) this.labels.lastElementChild.remove();
    labels.forEach(([x, y, text, anchor], index) => {
      const label = this.labels.children[index] ?? this.labels.appendChild(element("text"));
      label.setAttribute("x", x.toFixed(1));
      label.setAttribute("y", y.toFixed(1));
      label.setAttribute("text-anchor", anchor);
      if (label.textContent !== text) label.textContent = text;
    });
  }

  draw(layer, path) {
    this.layers[layer].setAttribute("d", path);
  }

  /** A value that holds until the next one: `points` of {at, until, value}. A null is a gap. */
  steps(points) {
    let path = "";
    let end = null;
    for (const { at, until, value } of points) {
      if (value === null || until <= this.from) {
        end = null;
        continue;
      }
      const from = Math.max(at, this.from);
      const y = this.y(value).toFixed(1);
      path += end === from ? `V${y}` : `M${this.x(from).toFixed(1)} ${y}`;
      path += `H${this.x(until).toFixed(1)}`;
      end = until;
    }
    return path;
  }

  /** What lies between two such values, where there are both. */
  band(points) {
    let path = "";
    let upper = [];
    let lower = [];
    let end = null;
    const close = () => {
      if (upper.length) path += `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
      upper = [];
      lower = [];
    };
    for (const { at, until, bid, ask } of points) {
      if (bid === null || ask === null || until <= this.from) {
        close();
        end = null;
        continue;
      }
      const from = Math.max(at, this.from);
      if (end !== from) close();
      const [x, then] = [this.x(from).toFixed(1), this.x(until).toFixed(1)];
      upper.push(`${x} ${this.y(ask).toFixed(1)}`, `${then} ${this.y(ask).toFixed(1)}`);
      lower.push(`${x} ${this.y(bid).toFixed(1)}`, `${then} ${this.y(bid).toFixed(1)}`);
      end = until;
    }
    close();
    return path;
  }

  /** From a step line down or up to zero. */
  filled(points) {
    const zero = this.y(0).toFixed(1);
    let path = "";
    for (const { at, until, value } of points) {
      if (value === null || until <= this.from) continue;
      const [x, then] = [this.x(Math.max(at, this.from)).toFixed(1), this.x(until).toFixed(1)];
      path += `M${x} ${zero}V${this.y(value).toFixed(1)}H${then}V${zero}Z`;
    }
    return path;
  }

  /** Triangles that point up or down, their middles at the points. */
  marks(points, up, size) {
    let path = "";
    for (const { at, value } of points) {
      if (at < this.from || at > this.to) continue;
      const [x, y] = [this.x(at), this.y(value)];
      const [tip, base] = up ? [y - size, y + size * 0.8] : [y + size, y - size * 0.8];
      path += `M${x.toFixed(1)} ${tip.toFixed(1)}L${(x + size).toFixed(1)} ${base.toFixed(1)}L${(x - size).toFixed(1)} ${base.toFixed(1)}Z`;
    }
    return path;
  }

  level(value) {
    return value < this.low || value > this.high ? "" : `M${LEFT} ${this.y(value).toFixed(1)}H${this.right}`;
  }

  point(at) {
    const shown = at !== null && at >= this.from && at <= this.to;
    this.cursor.setAttribute("d", shown ? `M${this.x(at).toFixed(1)} ${TOP}V${this.bottom}` : "");
  }
}

/** The last of `points`, which are in order of their `at`, that has begun at a time; undefined when none has. */
export function lastAt(points, at) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].at <= at) low = middle + 1;
    else high = middle;
  }
  return points[low - 1];
}
