// The topology as a live diagram: the chain of stages with what joins them, and beside it what helps.

import { h, setClass, setText } from "./dom.js";
import { bytes, NONE, percent } from "./format.js";
import { LinkView } from "./link_view.js";
import { StageView } from "./stage_view.js";

const SPINE = ["ingress", "decode", "inference", "egress"];

export class Topology {
  /** `restart(stage)` is called when a person wants it. */
  constructor(root, restart) {
    this.root = root;
    this.restart = restart;
    this.stages = new Map();
    this.links = new Map();
    this.machine = null;
  }

  /** What there is. Drawn anew only when the chain itself has changed. */
  plan(plan) {
    const shape = JSON.stringify(plan.stages.map(({ stage, input, output }) => [stage, input, output]));
    if (shape !== this.shape) this.draw(plan.stages);
    this.shape = shape;
    for (const stage of plan.stages) this.stages.get(stage.stage).plan(stage);
  }

  show({ status }) {
    if (!status) return;
    for (const stage of status.stages) this.stages.get(stage.stage)?.show(stage);
    for (const link of status.links) this.links.get(link.link)?.show(link);
  }

  hardware(stats) {
    if (!this.machine) return;
    const gpus = Object.values(stats.gpu_stats);
    const used = stats.memory_total - stats.memory_available;
    this.machine.show([
      ["CPU", percent(stats.cpu_percent)],
      ["load", stats.load_average.map((load) => load.toFixed(1)).join(" ")],
      ["memory", `${bytes(used)} of ${bytes(stats.memory_total)}`],
      ...gpus.map((gpu) => [gpu.name, `${gpu.utilization_compute} %, ${bytes(gpu.memory_total - gpu.memory_free)}`]),
      ...(gpus.length ? [] : [["GPU", NONE]]),
    ]);
  }

  draw(stages) {
    this.stages = new Map(stages.map((stage) => [stage.stage, new StageView(stage, this.restart)]));
    this.links = new Map();
    const chain = SPINE.map((worker) => stages.find((stage) => stage.worker === worker));
    const flow = h("ol", { class: "flow", "aria-label": "Stages in the order of the stream" });
    for (const stage of chain) {
      flow.append(this.stages.get(stage.stage).element);
      if (!stage.output) continue;
      const link = new LinkView(stage.output);
      this.links.set(stage.output, link);
      flow.append(link.element);
    }
    const beside = stages.filter((stage) => !chain.includes(stage));
    this.machine = new Machine();
    const others = h("ul", { class: "beside", "aria-label": "Beside the stream" });
    others.append(...beside.map((stage) => this.stages.get(stage.stage).element), this.machine.element);
    this.root.replaceChildren(flow, others);
  }
}

class Machine {
  constructor() {
    this.figures = h("dl", { class: "figures" });
    this.element = h("li", { class: "stage" }, h("h3", {}, "this machine"), this.figures);
    this.rows = new Map();
  }

  show(figures) {
    for (const [name, value] of figures) {
      if (!this.rows.has(name)) {
        this.rows.set(name, h("dd"));
        this.figures.append(h("dt", {}, name), this.rows.get(name));
      }
      setText(this.rows.get(name), value);
    }
    setClass(this.element, "stage ok");
  }
}
