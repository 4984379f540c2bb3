// The way of single frames: of the newest ones that were traced, each hop as a piece of a bar, on one scale.

import { h, setClass, setText, svg } from "./dom.js";
import { ms } from "./format.js";
import { inWords } from "./hops.js";

const HEIGHT = 10;

export class FrameTraces {
  constructor(root) {
    this.title = h("h3", {}, "");
    this.list = h("ol", { class: "traces" });
    this.legend = h("ul", { class: "legend" });
    this.known = []; // names of hops, in the order in which they were met
    root.append(this.title, this.list, this.legend);
  }

  /** `traces`: as GET /traces has them, newest first. */
  show({ every, traces }) {
    setText(this.title, every ? `The newest of the frames that are traced, one in ${every}` : "");
    const scale = Math.max(1, ...traces.map((trace) => trace.total_ms));
    while (this.list.childElementCount > traces.length) this.list.lastChild.remove();
    while (this.list.childElementCount < traces.length) this.list.append(row());
    traces.forEach((trace, at) => this.draw(this.list.children[at], trace, scale));
  }

  draw(element, { seq, outcome, total_ms, hops }, scale) {
    const [name, lane, said] = element.children;
    setText(name, `frame ${seq}`);
    setText(said, outcome === "delivered" ? ms(total_ms) : `${ms(total_ms)}, ${outcome}`);
    setClass(said, outcome === "delivered" ? "value" : "value problem");
    const pieces = hops.map((hop) => {
      const attributes = { class: this.colour(hop.name), y: 0, height: HEIGHT };
      const rect = svg("rect", { ...attributes, x: at(hop.start_ms, scale), width: at(hop.ms, scale) });
      rect.append(svg("title", {}, `${inWords(hop.name)} ${ms(hop.ms)}`));
      return rect;
    });
    lane.replaceChildren(...pieces);
  }

  colour(hop) {
    if (!this.known.includes(hop)) {
      this.known.push(hop);
      const colour = `series-${((this.known.length - 1) % 7) + 1}`;
      this.legend.append(h("li", { class: colour }, h("span", { class: "swatch" }), inWords(hop)));
    }
    return `piece series-${(this.known.indexOf(hop) % 7) + 1}`;
  }
}

function row() {
  const lane = svg("svg", { viewBox: `0 0 100 ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  return h("li", { class: "hop-row" }, h("span"), lane, h("span", { class: "value" }));
}

const at = (value, scale) => ((100 * value) / scale).toFixed(2);
