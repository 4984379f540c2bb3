// The form that publishes from this browser: the camera, or a file that is chosen or dropped, into a channel.

import { h, setText } from "./dom.js";
import { Field } from "./field.js";
import { Publication } from "./publishing.js";

const CAMERA = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
const WORDS = {
  ready: "Publishing.",
  received: "The service has all of it, and plays it.",
  sending: "Sending:",
  done: "Over:",
  error: "Not published:",
};

export class Publish {
  constructor(root, service) {
    this.service = service;
    this.publication = null;
    this.stream = null;
    this.channel = new Field("channel", { value: "camera", hint: "on the embedded relay", autocomplete: "off" });
    this.sound = new Field("with sound", { kind: "bool", value: true });
    this.camera = h(
      "button",
      { type: "button", class: "primary", onclick: () => this.useCamera() },
      "Publish the camera",
    );
    this.stop = h(
      "button",
      { type: "button", disabled: true, onclick: () => this.publication?.end() },
      "Stop publishing",
    );
    this.files = h("input", { id: "publish-file", type: "file", accept: "video/*,.ts,.mkv" });
    this.preview = h("video", { class: "preview", playsinline: true, hidden: true, "aria-label": "The camera" });
    this.preview.muted = true;
    this.said = h("p", { role: "status", class: "hint" });
    this.hint = h("p", { class: "hint" });
    const drop = h(
      "div",
      { class: "drop" },
      h("label", { for: this.files.id }, "Or a file, played once: choose it, or drop it here"),
      this.files,
    );
    this.files.addEventListener("change", () => this.useFile(this.files.files[0]));
    drop.addEventListener("dragover", (event) => event.preventDefault());
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      this.useFile(event.dataTransfer.files[0]);
    });
    const fields = h("div", { class: "form-grid" }, this.channel.element, this.sound.element);
    const buttons = h("div", { class: "controls" }, this.camera, this.stop);
    this.form = h("div", { role: "group", "aria-label": "Publish" }, fields, buttons, this.preview, drop);
    root.append(this.hint, this.form, this.said);
  }

  plan(plan) {
    this.form.hidden = !plan.has_relay;
    const source = plan.stages.find((stage) => stage.worker === "ingress").reads;
    const writer = plan.stages.find((stage) => stage.writes === source && source);
    if (!plan.has_relay) setText(this.hint, "This pipeline has no embedded relay to publish into.");
    else if (writer)
      setText(this.hint, `The stage ${writer.stage} writes the pipeline's input, ${source}; use another channel.`);
    else if (plan.on_request)
      setText(this.hint, "A stream that is started with this channel as its subscribe_url takes it.");
    else setText(this.hint, `The pipeline's input is ${source}.`);
    const own = !writer && !plan.on_request && source && !source.includes("://");
    if (own && !this.channel.changed) this.channel.reset(source);
  }

  async useCamera() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: CAMERA, audio: this.sound.raw });
    } catch (problem) {
      return this.say("error", problem.message);
    }
    this.preview.srcObject = this.stream;
    this.preview.hidden = false;
    this.preview.play().catch(() => {});
    this.begin().camera(this.stream);
  }

  useFile(file) {
    if (!file || this.publication) return;
    this.begin().file(file);
  }

  begin() {
    this.publication = new Publication(this.service, this.channel.raw.trim(), (state, text) => this.hear(state, text));
    this.busy(true);
    this.say("sending", "the service is asked");
    return this.publication;
  }

  hear(state, text) {
    this.say(state, text);
    if (state !== "done" && state !== "error") return;
    this.publication = null;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.preview.srcObject = null;
    this.preview.hidden = true;
    this.files.value = "";
    this.busy(false);
  }

  busy(is) {
    this.camera.disabled = this.files.disabled = this.channel.control.disabled = is;
    this.stop.disabled = !is;
  }

  say(state, text) {
    this.said.className = state === "error" ? "problem" : state === "done" ? "done" : "hint";
    setText(this.said, `${WORDS[state]} ${text}`.trim());
  }
}
