// Input and output side by side, and how far the one is behind the other.

import { readIndex } from "./block_code.js";
import { h, setText } from "./dom.js";
import { ms, NONE } from "./format.js";
import { glassLatency } from "./glass_latency.js";
import { Player } from "./player.js";
import { ShownPictures } from "./shown_pictures.js";

const LOOK_MS = 500;

export class VideoView {
  /** `measured(latency)` hears of each measurement: see glass_latency.js. `chose(stream)` hears of the stream that is
   *  shown, where they come on request; empty: none. */
  constructor(root, service, measured, chose) {
    this.chose = chose;
    this.onRequest = false;
    this.choice = h("select", { id: "shown-stream" });
    this.choice.addEventListener("input", () => this.show({ status: this.status }));
    this.choices = h(
      "div",
      { class: "field choice", hidden: true },
      h("label", { for: "shown-stream" }, "Stream"),
      this.choice,
    );
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
    root.append(
      this.choices,
      h("div", { class: "screens" }, this.input.element, this.output.element),
      this.latency,
      note,
    );
    setInterval(() => this.look(), LOOK_MS);
  }

  plan(plan) {
    this.onRequest = plan.on_request;
    if (plan.on_request) return;
    const channel = (worker, key) => plan.stages.find((stage) => stage.worker === worker)[key];
    this.input.show("", channel("ingress", "reads"));
    this.output.show("", channel("egress", "writes"));
  }

  /** With streams on request: play the one that is chosen, by default the first that runs. */
  show({ status }) {
    if (!status || !this.onRequest) return;
    this.status = status;
    const running = status.streams.filter((stream) => !stream.ended).map(({ spec }) => spec);
    const names = running.map((spec) => spec.stream);
    const chosen = running.find((spec) => spec.stream === this.choice.value) ?? running[0];
    if (names.join("\n") !== [...this.choice.options].map((option) => option.value).join("\n")) {
      this.choice.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    }
    this.choice.value = chosen?.stream ?? "";
    this.choices.hidden = names.length < 2;
    this.input.show(chosen?.stream ?? "", chosen?.subscribe_url ?? "");
    this.output.show(chosen?.stream ?? "", chosen?.publish_url ?? "");
    this.chose(chosen?.stream ?? "");
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
    this.shown = null;
    this.stream = "";
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

  /** Play this stream's channel; empty: there is none now. */
  show(stream, channel) {
    if (`${stream} ${channel}` === this.shown) return;
    this.shown = `${stream} ${channel}`;
    this.stream = stream;
    setText(this.name, channel || "no stream");
    this.pause.disabled = this.mute.disabled = !channel;
    this.player.stop();
    if (channel) this.player.play(stream);
    else setText(this.said, "no stream runs, or it is a file");
    setText(this.pause, "Stop");
  }

  toggle() {
    const playing = this.player.wanted;
    if (playing) this.player.stop();
    else this.player.play(this.stream);
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
