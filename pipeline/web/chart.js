// A line chart of the last minutes: one path a series, drawn anew with each sample; the newest values stand beside the
// names, so that nothing has to be read off a line.

import { h, setText, svg } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;

export class Chart {
  /** `format(value)` for people. Series come as they come: see `show`. */
  constructor(title, format) {
    this.format = format;
    this.lines = new Map();
    this.top = h("span", { class: "hint" });
    this.legend = h("ul", { class: "legend" });
    this.marks = svg("g", { class: "marks" });
    this.plot = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
      ...[0.25, 0.5, 0.75].map((part) => svg("path", { class: "grid", d: `M0 ${part * HEIGHT}H${WIDTH}` })),
      this.marks,
    );
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, title, " ", this.top), this.plot, this.legend);
  }

  /** `series` is {name: [[seconds, value or null], ...]}, `from` to `to` what is shown of it, `marks` are moments. */
  show(series, from, to, marks) {
    const values = Object.values(series).flatMap((points) => points.map(([, value]) => value ?? 0));
    const top = niceTop(Math.max(1e-9, ...values));
    setText(this.top, `0 to ${this.format(top)}`);
    const x = (seconds) => (((seconds - from) / (to - from)) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - (value / top) * HEIGHT).toFixed(1);
    for (const [name, points] of Object.entries(series)) {
      const { line, value } = this.lines.get(name) ?? this.add(name);
      line.setAttribute("d", path(points, x, y));
      setText(value, this.format(points.at(-1)?.[1] ?? null));
    }
    for (const [name, { line, value }] of this.lines) {
      if (name in series) continue;
      line.setAttribute("d", "");
      setText(value, this.format(null));
    }
    const seen = marks.filter((at) => at >= from);
    this.marks.replaceChildren(...seen.map((at) => svg("path", { d: `M${x(at)} 0V${HEIGHT}` })));
  }

  add(name) {
    const colour = `series-${(this.lines.size % 7) + 1}`;
    const line = svg("path", { class: `line ${colour}` });
    const value = h("b");
    this.plot.append(line);
    this.legend.append(h("li", { class: colour }, h("span", { class: "swatch" }), `${name} `, value));
    this.lines.set(name, { line, value });
    return this.lines.get(name);
  }
}

function path(points, x, y) {
  let drawn = "";
  let pen = "M";
  for (const [seconds, value] of points) {
    if (value === null || value === undefined) pen = "M";
    else {
      drawn += `${pen}${x(seconds)} ${y(value)}`;
      pen = "L";
    }
  }
  return drawn;
}

/** 1, 2 or 5 times a power of ten. */
function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= value * 1.02) ?? 20 * power;
}
