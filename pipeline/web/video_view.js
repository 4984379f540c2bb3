// Input and output side by side, and how far the one is behind the other.

import { readIndex } from "./block_code.js";
import { h, setText } from "./dom.js";
import { ms, NONE } from "./format.js";
import { glassLatency } from "./glass_latency.js";
import { Player } from "./player.js";
import { ShownPictures } from "./shown_pictures.js";

const LOOK_MS = 500;

export class VideoView {
  /** `measured(latency)` hears of each measurement: see glass_latency.js. */
  constructor(root, service, measured) {
    this.input = new Screen(service, "input", "Input");
    this.output = new Screen(service, "output", "Output");
    this.shown = new ShownPictures(this.output.video, this.output.player.tap);
    this.measured = measured;
    this.latency = h("p", { class: "latency", id: "glass-latency" });
    const note = h(
      "p",
      { class: "hint" },
      "Glass to glass, as this browser sees it: from when a picture of the source arrived here until the processed " +
        "picture of the same timestamp was on the screen. The way from the camera to the relay is not in it.",
    );
    root.append(h("div", { class: "screens" }, this.input.element, this.output.element), this.latency, note);
    setInterval(() => this.look(), LOOK_MS);
  }

  plan(plan) {
    const channel = (worker, key) => plan.stages.find((stage) => stage.worker === worker)[key];
    this.input.show(channel("ingress", "reads"));
    this.output.show(channel("egress", "writes"));
  }

  look() {
    const indices = [this.input.look(), this.output.look()];
    const latency = glassLatency(this.input.player.tap, this.output.player.tap, this.shown);
    this.measured(latency);
    const burnt = indices.every((index) => index !== null) ? ` · burnt-in numbers ${indices.join(" and ")}` : "";
    setText(
      this.latency,
      latency
        ? `Glass to glass p50 ${ms(latency.total.p50)}, p95 ${ms(latency.total.p95)}: pipeline and relay ` +
            `${ms(latency.pipeline.p50)}, this player ${ms(latency.player.p50)}${burnt}`
        : `Glass to glass ${NONE}${burnt}`,
    );
  }
}

class Screen {
  constructor(service, end, title) {
    this.channel = null;
    this.video = h("video", { id: `${end}-video`, playsinline: true, "aria-label": `${title}, live` });
    this.video.muted = true; // Else a browser does not begin to play by itself.
    this.said = h("span", { class: "hint", role: "status" });
    this.facts = h("span", { class: "hint" });
    this.name = h("span", { class: "hint" });
    this.pause = h("button", { type: "button", onclick: () => this.toggle() }, "Stop");
    this.pause.setAttribute("aria-label", `Stop ${end}`);
    this.mute = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggleSound() }, "Sound");
    this.mute.setAttribute("aria-label", `Sound of ${end}`);
    this.player = new Player(service, end, this.video, (text) => setText(this.said, text));
    this.end = end;
    this.element = h(
      "figure",
      { class: "screen" },
      h("figcaption", {}, h("b", {}, title), " ", this.name),
      h("div", { class: "glass" }, this.video, this.said),
      h("div", { class: "controls" }, this.pause, this.mute, this.facts),
    );
  }

  /** Play this channel; empty: there is none now. */
  show(channel) {
    if (channel === this.channel) return;
    this.channel = channel;
    setText(this.name, channel || "no stream");
    this.pause.disabled = this.mute.disabled = !channel;
    this.player.stop();
    if (channel) this.player.play();
    else setText(this.said, "no stream runs, or it is a file");
    setText(this.pause, "Stop");
  }

  toggle() {
    const playing = this.player.wanted;
    if (playing) this.player.stop();
    else this.player.play();
    setText(this.pause, playing ? "Play" : "Stop");
    this.pause.setAttribute("aria-label", `${playing ? "Play" : "Stop"} ${this.end}`);
  }

  toggleSound() {
    this.video.muted = !this.video.muted;
    this.mute.setAttribute("aria-pressed", String(!this.video.muted));
  }

  /** Tells size and buffer. Returns the burnt-in number, null without one. */
  look() {
    const { videoWidth, videoHeight, buffered, currentTime } = this.video;
    if (!videoWidth || !buffered.length) {
      setText(this.facts, "");
      return null;
    }
    const ahead = buffered.end(buffered.length - 1) - currentTime;
    setText(this.facts, `${videoWidth}×${videoHeight}, ${ms(Math.max(0, ahead) * 1000)} behind the newest picture`);
    return readIndex(this.video);
  }
}
