// What is charted of the last five minutes, and for how long it is kept.

import { Chart } from "./chart.js";
import { h } from "./dom.js";
import { ms, percent, rate as perSecond } from "./format.js";

const SHOWN_S = 300;
const MAX_SAMPLES = 700;

export class Charts {
  constructor(root) {
    this.fps = new Chart("Frames a second", perSecond);
    this.latency = new Chart("Latency", ms);
    this.cpu = new Chart("CPU by stage, 100 % is one core", percent);
    this.gpu = new Chart("GPU", percent);
    this.gpu.element.hidden = true;
    this.samples = [];
    this.gpus = {};
    this.glass = null;
    this.deaths = [];
    const charts = [this.fps, this.latency, this.cpu, this.gpu];
    root.append(h("div", { class: "charts" }, ...charts.map((chart) => chart.element)));
    root.append(h("p", { class: "hint" }, "Upright lines are deaths of stages."));
  }

  measured(latency) {
    this.glass = latency?.total.p50 ?? null;
  }

  hardware(stats) {
    const cards = Object.entries(stats.gpu_stats).map(([at, card]) => [`${at} ${card.name}`, card.utilization_compute]);
    this.gpus = Object.fromEntries(cards);
    this.gpu.element.hidden = !cards.length;
  }

  event(event) {
    if (event.name === "died") this.deaths.push(event.time);
  }

  show({ status }) {
    if (!status) return;
    const now = Date.now() / 1000;
    const rate = (worker) => {
      const stages = status.stages.filter((stage) => stage.worker === worker);
      return stages.reduce((sum, stage) => sum + stage.rate_out, 0); // One a stream.
    };
    const [p50, p95] = status.end_to_end_ms;
    this.samples.push({
      at: now,
      fps: { decoded: rate("decode"), delivered: rate("egress") },
      latency: { "end to end p50": p50, "end to end p95": p95, "to the screen": this.glass },
      cpu: Object.fromEntries(
        status.stages.filter((each) => each.pid !== null).map((each) => [each.stage, each.cpu_percent]),
      ),
      gpu: this.gpus,
    });
    while (this.samples.length > MAX_SAMPLES || this.samples[0].at < now - SHOWN_S) this.samples.shift();
    this.deaths = this.deaths.filter((at) => at > now - SHOWN_S);
    for (const key of ["fps", "latency", "cpu", "gpu"]) {
      this[key].show(this.series(key), now - SHOWN_S, now, this.deaths);
    }
  }

  series(key) {
    const names = Object.keys(this.samples.at(-1)[key]);
    return Object.fromEntries(names.map((name) => [name, this.samples.map((each) => [each.at, each[key][name]])]));
  }
}
