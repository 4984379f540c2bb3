// Streams on request: a form that starts one, those that run, and those that are over with the reason; and the pause.

import { h, setText } from "./dom.js";
import { clock, counts, ms, rate } from "./format.js";
import { Field } from "./field.js";
import { Pause } from "./pause.js";
import { WorkflowDrop } from "./workflow_drop.js";

const WITH_WORKFLOW = ["comfyui", "comfystream"];
const CLASSES = { STARTING: "warn", ONLINE: "ok", STOPPING: "warn", ENDED: "", FAILED: "bad" };

export class Streams {
  constructor(root, service) {
    this.service = service;
    this.of_file = h("p", { class: "hint" });
    const channel = "a channel's URL, or a name on the embedded relay";
    this.fields = [
      new Field("subscribe_url", { hint: channel, autocomplete: "off" }),
      new Field("publish_url", { hint: channel, autocomplete: "off" }),
      new Field("width", { kind: "int", hint: "pixels; with height, or neither" }),
      new Field("height", { kind: "int", hint: "pixels" }),
      new Field("stream_id", { hint: "made if there is none", autocomplete: "off" }),
    ];
    this.drop = new WorkflowDrop("start");
    this.start = h("button", { class: "primary" }, "Start the stream");
    this.said = h("p", { role: "status" });
    this.form = h("form", { novalidate: true, hidden: true, class: "form-grid", "aria-label": "Start a stream" });
    this.form.append(
      ...this.fields.map((field) => field.element),
      this.drop.element,
      h("div", { class: "controls" }, this.start, this.said),
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.list = h("ul", { class: "streams" });
    this.rows = new Map();
    this.pause = new Pause(service);
    root.append(this.of_file, this.form, this.list, this.pause.element);
  }

  plan(plan) {
    this.pause.plan(plan);
    this.form.hidden = !plan.on_request;
    this.of_file.hidden = plan.on_request;
    this.drop.element.hidden = !WITH_WORKFLOW.includes(plan.kind);
    const end = (worker, key) => {
      const stage = plan.stages.find((each) => each.worker === worker);
      return stage[key] || stage.file;
    };
    const { width, height } = plan.largest;
    this.form.title = `Frames of up to ${width}×${height} pixels`;
    setText(
      this.of_file,
      `This pipeline runs the stream of its file, from ${end("ingress", "reads")} to ${end("egress", "writes")}. ` +
        "With streams: {on_request: true} in the topology they are started and stopped here.",
    );
  }

  show({ status }) {
    this.pause.show({ status });
    if (!status) return;
    const seen = new Set();
    for (const stream of status.streams) {
      const key = `${stream.spec.stream} ${stream.began}`;
      seen.add(key);
      if (!this.rows.has(key)) this.rows.set(key, new StreamRow(stream, () => this.stop(stream.spec.stream)));
      this.rows.get(key).show(stream);
    }
    for (const [key, row] of this.rows) {
      if (seen.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    const order = [...seen].map((key) => this.rows.get(key).element);
    if (order.some((element, at) => this.list.children[at] !== element)) this.list.replaceChildren(...order);
  }

  async send() {
    for (const field of this.fields) field.refuse("");
    this.drop.refuse("");
    const filled = this.fields.filter((field) => field.raw !== "");
    const body = Object.fromEntries(filled.map((field) => [field.name, field.value]));
    if (this.drop.workflow !== null) body.prompts = [this.drop.workflow];
    this.start.disabled = true;
    try {
      const { stream_id } = await this.service.post("/stream/start", body);
      this.say(`${stream_id} is being started.`, "done");
    } catch (problem) {
      this.refuse(problem);
    }
    this.start.disabled = false;
  }

  refuse(problem) {
    const name = (problem.path ?? "").split(".").at(-1);
    const field = this.fields.find((each) => each.name === name);
    const text = problem.text ?? problem.message;
    if (field) field.refuse(text);
    if (name.startsWith("prompt")) this.drop.refuse(text);
    this.say(field || name.startsWith("prompt") ? "Not started." : text, "problem");
  }

  async stop(stream) {
    try {
      await this.service.post(`/stream/${encodeURIComponent(stream)}/stop`);
      this.say(`${stream} is over.`, "done");
    } catch (problem) {
      this.say(problem.text ?? problem.message, "problem");
    }
  }

  say(text, kind) {
    this.said.className = kind;
    setText(this.said, text);
  }
}

class StreamRow {
  constructor({ spec }, stop) {
    this.state = h("span", { class: "state" });
    this.facts = h("p", { class: "hint" });
    this.reason = h("p", { class: "hint" });
    this.button = h(
      "button",
      { type: "button", "aria-label": `Stop the stream ${spec.stream}`, onclick: stop },
      "Stop",
    );
    this.element = h(
      "li",
      { "data-stream": spec.stream },
      h("div", { class: "controls" }, h("b", {}, spec.stream), this.state, this.button),
      h("p", {}, `${spec.subscribe_url} → ${spec.publish_url}`),
      this.facts,
      this.reason,
    );
  }

  show(stream) {
    this.state.className = `state ${CLASSES[stream.state] ?? "bad"}`;
    setText(this.state, stream.state);
    this.button.hidden = Boolean(stream.ended);
    const { decoded, delivered, dropped } = stream.frames;
    const lost = counts(dropped);
    setText(
      this.facts,
      `since ${clock(stream.began)}, ${rate(stream.fps)} fps, ${delivered} of ${decoded} frames delivered` +
        `${lost ? `, dropped: ${lost}` : ""}, first out after ${ms(stream.first_out_ms)}`,
    );
    setText(this.reason, stream.reason);
  }
}
