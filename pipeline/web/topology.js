// The topology as a live diagram: the chain of stages with what joins them, one a stream where several run at once, and
// beside them what helps.

import { h, setClass, setText } from "./dom.js";
import { bytes, NONE, percent } from "./format.js";
import { LinkView } from "./link_view.js";
import { StageView } from "./stage_view.js";

export class Topology {
  /** `restart(stage)` is called when a person wants it. */
  constructor(root, restart) {
    this.root = root;
    this.restart = restart;
    this.stages = new Map();
    this.links = new Map();
    this.chains = [];
    this.machine = null;
  }

  /** What there is. Drawn anew only when the chain itself has changed. */
  plan(plan) {
    const shape = JSON.stringify(plan.stages.map(({ stage, input, output, serves }) => [stage, input, output, serves]));
    if (shape !== this.shape) this.draw(plan.stages);
    this.shape = shape;
    for (const stage of plan.stages) this.stages.get(stage.stage).plan(stage);
  }

  show({ status }) {
    if (!status) return;
    for (const stage of status.stages) this.stages.get(stage.stage)?.show(stage);
    const idle = new Set(status.stages.filter((stage) => stage.state === "IDLE").map((stage) => stage.stage));
    for (const { row, own, shared } of this.chains) row.hidden = shared && own.every((stage) => idle.has(stage));
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
    const drawn = new Set();
    this.chains = chainsOf(stages).map((chain) => this.row(chain, drawn));
    const shown = new Set(this.chains.flatMap(({ own }) => own).concat([...drawn]));
    const beside = stages.filter(({ stage }) => !shown.has(stage));
    this.machine = new Machine();
    const others = h("ul", { class: "beside", "aria-label": "Beside the stream" });
    others.append(...beside.map((stage) => this.stages.get(stage.stage).element), this.machine.element);
    this.root.replaceChildren(...this.chains.map(({ row }) => row), others);
  }

  /** One chain: {row, own, shared}, its element, the stages that are its alone, and whether its inference is shown in
   *  another one's: `drawn` are those that are shown. */
  row({ ingress, decode, inference, egress, links }, drawn) {
    const row = h("ol", { class: "flow", "aria-label": "Stages in the order of the stream" });
    const boxes = [ingress, decode, inference, egress].map(({ stage }) => this.stages.get(stage).element);
    const shared = drawn.has(inference.stage);
    if (shared) boxes[2] = h("li", { class: "stage shared" }, h("h3", {}, inference.stage), "as above");
    drawn.add(inference.stage);
    boxes.forEach((box, number) => {
      row.append(box);
      if (number === links.length) return;
      const link = new LinkView(links[number]);
      this.links.set(links[number], link);
      row.append(link.element);
    });
    return { row, own: [ingress, decode, egress].map(({ stage }) => stage), shared };
  }
}

/** From each ingress to its egress. Further chains have links whose names carry their place behind inference's own. */
function chainsOf(stages) {
  return stages
    .filter(({ worker }) => worker === "ingress")
    .map((ingress) => {
      const decode = stages.find(({ worker, input }) => worker === "decode" && input === ingress.output);
      const inference = stages.find(({ serves }) => serves.includes(decode.stage));
      const place = decode.output.slice(inference.input.length);
      const behind = inference.output + place;
      const egress = stages.find(({ worker, input }) => worker === "egress" && input === behind);
      return { ingress, decode, inference, egress, links: [ingress.output, decode.output, behind] };
    });
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
