// Where the time goes: each hop from the source's arrival to the screen as a bar that begins where the one before ends.

import { h, setText, svg } from "./dom.js";
import { ms, NONE } from "./format.js";

const SPINE = ["decode", "inference", "egress"];

export class Waterfall {
  constructor(root) {
    this.rows = h("div", { class: "waterfall", role: "list" });
    this.note = h("p", { class: "hint" });
    this.latency = null;
    this.hops = new Map();
    root.append(this.rows, this.note);
  }

  /** See glass_latency.js; null: not known. */
  measured(latency) {
    this.latency = latency;
  }

  show({ status }) {
    if (!status) return;
    const stages = SPINE.map((worker) => status.stages.find((stage) => stage.worker === worker)).filter(Boolean);
    const known = stages.filter((stage) => stage.latency_ms[0] !== null);
    const inside = known.reduce((sum, stage) => sum + stage.latency_ms[0], 0);
    const [whole] = status.end_to_end_ms;
    const hops = known.map((stage) => [stage.stage, stage.latency_ms[0], stage.latency_ms[1]]);
    if (whole !== null) hops.push(["waiting in links", Math.max(0, whole - inside), null]);
    if (whole !== null && this.latency) {
      hops.push(["relay, network", Math.max(0, this.latency.pipeline.p50 - whole), null]);
      hops.push(["player's buffer", this.latency.player.p50, this.latency.player.p95]);
    }
    this.draw(hops);
    const total = this.latency ? this.latency.total.p50 : whole;
    setText(
      this.note,
      `p50 of each stage from a frame's arrival to its handing on, the pale part up to p95; in all ${ms(total)}` +
        (this.latency ? " to the screen." : ", from the source's last byte to the encoded bytes."),
    );
  }

  draw(hops) {
    const end = hops.reduce((sum, [, p50]) => sum + p50, 0);
    const scale = Math.max(end, ...hops.map(([, p50, p95], at) => sumBefore(hops, at) + Math.max(p50, p95 ?? 0)), 1);
    for (const name of [...this.hops.keys()]) {
      if (!hops.some(([hop]) => hop === name)) this.remove(name);
    }
    hops.forEach(([name, p50, p95], at) => {
      const row = this.hops.get(name) ?? this.add(name);
      const begin = (100 * sumBefore(hops, at)) / scale;
      place(row.bar, begin, (100 * p50) / scale);
      place(row.tail, begin, (100 * Math.max(p50, p95 ?? 0)) / scale);
      setText(row.value, p95 === null ? ms(p50) : `${ms(p50)} / ${p95 === undefined ? NONE : ms(p95)}`);
    });
  }

  add(name) {
    const bar = svg("rect", { class: "hop", y: 3, height: 10 });
    const tail = svg("rect", { class: "hop tail", y: 3, height: 10 });
    const value = h("span", { class: "value" });
    const lane = svg("svg", { viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" }, tail, bar);
    const element = h("div", { class: "hop-row", role: "listitem", "data-hop": name }, h("span", {}, name), lane, value);
    this.rows.append(element);
    this.hops.set(name, { element, bar, tail, value });
    return this.hops.get(name);
  }

  remove(name) {
    this.hops.get(name).element.remove();
    this.hops.delete(name);
  }
}

const sumBefore = (hops, at) => hops.slice(0, at).reduce((sum, [, p50]) => sum + p50, 0);

function place(rect, x, width) {
  rect.setAttribute("x", x.toFixed(2));
  rect.setAttribute("width", Math.max(0.4, width).toFixed(2));
}
