// The bar at the top: how the pipeline is and why, and the equation of its frames.

import { setClass, setText, h } from "./dom.js";
import { counts, ms, rate } from "./format.js";

const CLASSES = { OK: "ok", IDLE: "ok", LOADING: "warn", DEGRADED: "bad", ERROR: "bad" };

export class HealthBar {
  constructor(root, equation) {
    this.state = h("span", { class: "state" });
    this.reasons = h("span", { class: "reasons" });
    this.equation = equation;
    root.append(this.state, this.reasons);
    this.lost("connecting");
  }

  show({ health, status }) {
    setClass(this.state, `state ${CLASSES[health.status] ?? "bad"}`);
    setText(this.state, health.status);
    setText(this.reasons, [...health.reasons, ...(status?.paused ? ["paused"] : [])].join("; "));
    if (!status) return;
    const { decoded, delivered, dropped, in_flight } = status.frames;
    const lost = Object.values(dropped).reduce((sum, count) => sum + count, 0);
    const why = lost ? ` (${counts(dropped)})` : "";
    const [p50, p95] = status.end_to_end_ms;
    setText(
      this.equation,
      `decoded ${decoded} = delivered ${delivered} + dropped ${lost}${why} + in flight ${in_flight}` +
        ` · ${rate(status.fps)} fps · end to end p50 ${ms(p50)}, p95 ${ms(p95)}`,
    );
  }

  lost(problem) {
    setClass(this.state, "state bad");
    setText(this.state, "NO CONNECTION");
    setText(this.reasons, problem);
  }
}
