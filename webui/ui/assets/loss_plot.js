// The curves of a training: every step as it was, faintly, and smoothed in front. They come from the training's log,
// piece by piece while it runs; a page that is opened later, or again, gets them from the beginning.

import { element } from "./card_api.js";
import { recall, remember, sleep } from "./dom.js";

const PERIOD = 1000; // milliseconds between looks at the log
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [600, 240, 58, 22, 8]; // units of the drawing, and its margins
const COLUMNS = 400; // points of a curve, at most twice as many
const KEPT = "easel_loss_smoothing";
const CURVES = [["Loss", 2], ["Learning rate", 3], ["Gradient norm", 4]]; // and where each stands in a row of the log
const SVG = "http://www.w3.org/2000/svg";

export class LossPlot {
  // ask: asks the server. currentJob: gives the id of the job whose curves are wanted, "" for none.
  constructor(ask, currentJob) {
    Object.assign(this, { ask, currentJob });
    this.curve = element("select", { id: "train_curve" },
      ...CURVES.map(([textContent, value]) => element("option", { value, textContent })));
    this.curve.setAttribute("aria-label", "Curve");
    this.smoothing = element("input", { id: "train_smoothing", type: "range", min: 0, max: 0.99, step: 0.01 });
    this.smoothing.value = recall(localStorage, KEPT) ?? 0.9;
    this.smoothing.setAttribute("aria-label", "Smoothing");
    this.curve.addEventListener("change", () => this.draw());
    this.smoothing.addEventListener("input", () => {
      remember(localStorage, KEPT, this.smoothing.value);
      this.draw();
    });
    this.picture = document.createElementNS(SVG, "svg");
    this.picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.picture.setAttribute("role", "img");
    this.picture.setAttribute("aria-label", "The training's curve");
    this.words = element("p", { id: "train_curve_words" });
    const label = element("label", {}, element("span", { textContent: "Smoothing" }), this.smoothing);
    this.root = element("div", { id: "train_plot", className: "train-plot", hidden: true },
      element("div", { className: "train-plot-head" }, this.curve, label), this.picture, this.words);
    this.begin("");
    this.watch();
  }

  begin(id) {
    Object.assign(this, { id, rows: [], offset: 0, ended: !id });
    this.root.hidden = true;
  }

  // Looks at the log for as long as the page lives, but only while someone can see the curves.
  async watch() {
    for (;;) {
      const seen = this.root.parentElement?.checkVisibility() && !document.hidden;
      if (!seen || !(await this.look())) await sleep(PERIOD);
    }
  }

  // Returns: whether there may be more at once.
  async look() {
    const id = await this.currentJob();
    if (id !== this.id) this.begin(id);
    if (this.ended) return false;
    try {
      const { rows, offset, ended } = await this.ask("/log", { id, offset: this.offset });
      if (id !== this.id) return false;
      Object.assign(this, { offset, ended });
      this.rows.push(...rows);
      if (rows.length) this.draw();
      return rows.length > 1000;
    } catch {
      return false; // a server that is away for a moment
    }
  }

  draw() {
    const place = Number(this.curve.value);
    const points = this.rows.filter((row) => row[place] !== null).map((row) => [row[0], row[place]]);
    this.root.hidden = !this.rows.length;
    this.picture.replaceChildren();
    if (!points.length) return;
    const smooth = smoothed(points, Number(this.smoothing.value));
    const [first, last] = [points[0][0], points[points.length - 1][0]];
    const values = points.map(([, value]) => value);
    const [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    const x = (step) => LEFT + ((step - first) / Math.max(last - first, 1)) * (WIDTH - LEFT - 8);
    const y = (value) => TOP + (1 - (value - least) / (most - least || 1)) * (HEIGHT - TOP - BOTTOM);
    const line = (curve, className) => this.add("polyline", {
      class: className, points: thinned(curve).map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" "),
    });
    for (const value of [least, (least + most) / 2, most]) {
      this.add("line", { class: "grid", x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value) });
      this.add("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value));
    }
    this.add("text", { x: LEFT, y: HEIGHT - 6 }, String(first));
    this.add("text", { x: WIDTH - 8, y: HEIGHT - 6, "text-anchor": "end" }, String(last));
    line(points, "raw");
    line(smooth, "smooth");
    const [raw, mean] = [points, smooth].map((curve) => short(curve[curve.length - 1][1]));
    this.words.textContent = `Step ${last}: ${raw}, smoothed ${mean}`;
  }

  add(tag, attributes, text = "") {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    this.picture.append(made);
  }
}

// The exponential moving average, as TensorBoard has it: unbiased from the first point on.
function smoothed(points, weight) {
  let [mean, share] = [0, 0];
  return points.map(([step, value]) => {
    mean = weight * mean + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return [step, mean / share];
  });
}

// Of each stretch of a long curve its lowest and its highest point, so that no peak is lost.
function thinned(points) {
  const stretch = Math.ceil(points.length / COLUMNS);
  if (stretch < 3) return points;
  const kept = [];
  for (let at = 0; at < points.length; at += stretch) {
    const part = points.slice(at, at + stretch);
    const lowest = part.reduce((a, b) => (b[1] < a[1] ? b : a));
    const highest = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...[lowest, highest].sort((a, b) => a[0] - b[0]));
  }
  kept[kept.length - 1] = points[points.length - 1];
  return kept;
}

const short = (value) => Number(value.toPrecision(3)).toString();
