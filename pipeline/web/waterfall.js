// Where the time goes: each hop from the source's arrival to the screen as a bar that begins where the one before ends.
// The hops are those of traced frames; where none are traced, those that the stages' own figures give.

import { h, setText, svg } from "./dom.js";
import { ms } from "./format.js";
import { inWords } from "./hops.js";

const SPINE = ["decode", "inference", "egress"];

export class Waterfall {
  constructor(root) {
    this.rows = h("div", { class: "waterfall", role: "list" });
    this.note = h("p", { class: "hint" });
    this.latency = null;
    this.traced = [];
    this.hops = new Map();
    root.append(this.rows, this.note);
  }

  /** See glass_latency.js; null: not known. */
  measured(latency) {
    this.latency = latency;
  }

  traces({ hops }) {
    const known = hops.filter((hop) => hop.name !== "total" && hop.p50_ms !== null);
    this.traced = known.map((hop) => [inWords(hop.name), hop.p50_ms, hop.p95_ms]);
  }

  show({ status }) {
    if (!status) return;
    const hops = this.traced.length ? [...this.traced] : ofStages(status);
    const inside = hops.reduce((sum, [, p50]) => sum + p50, 0);
    if (hops.length && this.latency) {
      hops.push(["relay, network", Math.max(0, this.latency.pipeline.p50 - inside), null]);
      hops.push(["player", this.latency.player.p50, this.latency.player.p95]);
    }
    this.draw(hops);
    const total = this.latency
      ? `${ms(this.latency.total.p50)} to the screen`
      : `${ms(status.end_to_end_ms[0])} end to end`;
    setText(this.note, `p50 of each hop, the pale part up to p95; in all ${total}.`);
  }

  draw(hops) {
    const begins = hops.map((_, at) => hops.slice(0, at).reduce((sum, [, p50]) => sum + p50, 0));
    const scale = Math.max(1, ...hops.map(([, p50, p95], at) => begins[at] + Math.max(p50, p95 ?? 0)));
    for (const [name, { element }] of this.hops) {
      if (hops.some(([hop]) => hop === name)) continue;
      element.remove();
      this.hops.delete(name);
    }
    hops.forEach(([name, p50, p95], at) => {
      const row = this.hops.get(name) ?? this.add(name);
      place(row.bar, (100 * begins[at]) / scale, (100 * p50) / scale);
      place(row.tail, (100 * begins[at]) / scale, (100 * Math.max(p50, p95 ?? 0)) / scale);
      setText(row.value, p95 === null ? ms(p50) : `${ms(p50)} / ${ms(p95)}`);
      if (this.rows.children[at] !== row.element) this.rows.insertBefore(row.element, this.rows.children[at] ?? null);
    });
  }

  add(name) {
    const bar = svg("rect", { class: "hop", y: 3, height: 10 });
    const tail = svg("rect", { class: "hop tail", y: 3, height: 10 });
    const value = h("span", { class: "value" });
    const lane = svg("svg", { viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" }, tail, bar);
    const element = h(
      "div",
      { class: "hop-row", role: "listitem", "data-hop": name },
      h("span", {}, name),
      lane,
      value,
    );
    this.hops.set(name, { element, bar, tail, value });
    return this.hops.get(name);
  }
}

/** [[name, p50, p95], ...] of the stages, and what is left of end to end. */
function ofStages(status) {
  const known = SPINE.map((worker) =>
    status.stages.find((stage) => stage.worker === worker && stage.latency_ms[0] !== null),
  ).filter(Boolean);
  const hops = known.map((stage) => [stage.stage, ...stage.latency_ms]);
  const inside = hops.reduce((sum, [, p50]) => sum + p50, 0);
  const [whole] = status.end_to_end_ms;
  if (whole !== null) hops.push(["waits in links", Math.max(0, whole - inside), null]);
  return hops;
}

function place(rect, x, width) {
  rect.setAttribute("x", x.toFixed(2));
  rect.setAttribute("width", Math.max(0.4, width).toFixed(2));
}
