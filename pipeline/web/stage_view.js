// One stage as a box: its state, its process, what it does and what it uses; and the button that starts it again.

import { h, setClass, setText } from "./dom.js";
import { bytes, duration, ms, percent, rate } from "./format.js";

const ORDER = ["pid", "restarts", "in / out", "p50 / p95", "CPU", "memory", "spares", "skipped", "capped"];

const CLASSES = { READY: "ok", IDLE: "", FINISHED: "", STARTING: "warn", BACKOFF: "warn", FAILED: "bad" };

export class StageView {
  constructor({ stage, worker }, restart) {
    this.state = h("span", { class: "state" });
    this.runs = h("p", { class: "hint runs" });
    this.figures = new Map();
    this.list = h("dl", { class: "figures" });
    const button = h("button", { type: "button", "aria-label": `Restart ${stage}` }, "Restart");
    button.addEventListener("click", async () => {
      button.disabled = true;
      await restart(stage);
      button.disabled = false;
    });
    this.element = h(
      "li",
      { class: "stage", id: `stage-${stage}`, "data-worker": worker },
      h("h3", {}, stage, this.state),
      this.runs,
      this.list,
      button,
    );
  }

  plan({ reads, writes, file, runs }) {
    const ends = [reads && `reads ${reads}`, writes && `writes ${writes}`, file].filter(Boolean).join(" · ");
    const said = runs || ends;
    setText(this.runs, said);
    this.runs.title = said;
    this.runs.hidden = !said;
  }

  show(stage) {
    const kind = stage.passing_through ? "warn" : (CLASSES[stage.state] ?? "bad");
    setClass(this.element, `stage ${kind}`);
    setClass(this.state, `state ${kind}`);
    setText(this.state, stage.passing_through ? "PASSING THROUGH" : stage.state);
    const died = stage.last_death ? ` (${stage.last_death})` : "";
    this.figure("pid", stage.pid === null ? "–" : `${stage.pid}, ${duration(stage.uptime_s)}`);
    this.figure("restarts", `${stage.restarts}${died}`);
    if (stage.units_in || stage.units_out) {
      this.figure("in / out", `${rate(stage.rate_in)} / ${rate(stage.rate_out)} a s`);
    }
    const [p50, p95] = stage.latency_ms;
    if (p50 !== null) this.figure("p50 / p95", `${ms(p50)} / ${ms(p95)}`);
    this.figure("CPU", percent(stage.cpu_percent));
    this.figure("memory", bytes(stage.rss_bytes));
    if (stage.spares) this.figure("spares", String(stage.spares));
    if (stage.skipped) this.figure("skipped", String(stage.skipped));
    if (stage.capped) this.figure("capped", String(stage.capped));
  }

  figure(name, value) {
    if (!this.figures.has(name)) {
      const next = ORDER.slice(ORDER.indexOf(name)).find((each) => this.figures.has(each));
      const before = next ? this.figures.get(next).previousElementSibling : null;
      this.figures.set(name, h("dd", { "data-figure": name }));
      for (const element of [h("dt", {}, name), this.figures.get(name)]) this.list.insertBefore(element, before);
    }
    setText(this.figures.get(name), value);
  }
}
