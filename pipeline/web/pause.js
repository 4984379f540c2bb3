// Has the processor rest, and go on again, while the stream itself goes on: viewers see the last picture, or the input.

import { h, setText } from "./dom.js";

export class Pause {
  constructor(service) {
    this.service = service;
    this.stream = "";
    this.paused = this.asking = false;
    this.button = h("button", { type: "button", disabled: true, onclick: () => this.change() }, "Pause the processor");
    this.show_input = h("input", { id: "pause-input", type: "checkbox" });
    this.said = h("span", { class: "problem", role: "alert" });
    const label = h("label", { for: "pause-input" }, "and show the input meanwhile");
    this.element = h("div", { class: "controls" }, this.button, this.show_input, label, this.said);
  }

  plan(plan) {
    this.onRequest = plan.on_request;
  }

  /** Have this stream's rest; empty: whatever runs. */
  of(stream) {
    this.stream = stream;
  }

  show({ status }) {
    const runs = status && (!this.onRequest || status.streams.some((stream) => !stream.ended));
    const stream = status?.streams.find(({ spec, ended }) => spec.stream === this.stream && !ended);
    this.paused = Boolean(stream ? stream.paused : status?.paused);
    this.button.disabled = this.asking || !runs;
    this.show_input.disabled = this.paused || !runs;
    setText(this.button, this.paused ? "Let the processor go on" : "Pause the processor");
  }

  async change() {
    this.asking = this.button.disabled = true;
    setText(this.said, "");
    try {
      const path = this.stream ? `/stream/${encodeURIComponent(this.stream)}` : "/stream";
      if (this.paused) await this.service.post(`${path}/resume`);
      else await this.service.post(`${path}/pause`, { show: this.show_input.checked ? "input" : "last_frame" });
    } catch (problem) {
      setText(this.said, problem.text ?? problem.message);
    }
    this.asking = false;
  }
}
