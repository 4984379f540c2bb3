// The processor's parameters as a form: what is in force, what is allowed, and what the processor said to a change.

import { h, setText } from "./dom.js";
import { Field } from "./field.js";
import { located } from "./problems.js";
import { WorkflowDrop } from "./workflow_drop.js";

const WITH_WORKFLOW = ["comfyui", "comfystream"];

export class Parameters {
  constructor(root, service) {
    this.service = service;
    this.fields = new Map(); // "node name" -> {field, parameter}
    this.onRequest = this.streams = this.some = this.asking = false;
    this.of("");
    this.hint = h("p", { class: "hint" });
    this.groups = h("div", { class: "groups" });
    this.said = h("p", { role: "status" });
    this.apply = h("button", { class: "primary" }, "Apply");
    this.undo = h("button", { type: "button", onclick: () => this.reset() }, "Undo");
    this.form = h("form", { novalidate: true, "aria-label": "Parameters of the processor" });
    this.form.append(this.groups, h("div", { class: "controls" }, this.apply, this.undo, this.hint), this.said);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.drop = new WorkflowDrop("change", (workflow) => this.sendWorkflow(workflow));
    this.drop.element.hidden = true;
    root.append(this.form, this.drop.element);
  }

  plan(plan) {
    this.onRequest = plan.on_request;
    this.drop.element.hidden = !WITH_WORKFLOW.includes(plan.kind);
    const shape = JSON.stringify(plan.parameters.map(({ value, ...rest }) => rest));
    if (shape !== this.shape) this.draw(plan.parameters);
    this.shape = shape;
    for (const parameter of plan.parameters) {
      const known = this.fields.get(key(parameter));
      known.parameter = parameter;
      if (!known.field.changed) known.field.reset(parameter.value); // What somebody is typing stays.
    }
    this.some = plan.parameters.length > 0;
    this.keepUp();
  }

  show({ status }) {
    this.streams = status?.streams.some((stream) => !stream.ended) ?? false;
    this.keepUp();
  }

  /** Whether they can be changed now: with streams on request they are those of the stream that runs. */
  keepUp() {
    const waits = this.onRequest && !this.streams;
    this.apply.disabled = this.undo.disabled = this.asking || waits || !this.some;
    setText(this.hint, waits && this.some ? "They can be changed while a stream runs." : "");
  }

  /** Change those of this stream; empty: of whatever runs. */
  of(stream) {
    this.path = stream ? `/stream/${encodeURIComponent(stream)}/params` : "/stream/params";
  }

  draw(parameters) {
    this.fields = new Map();
    const groups = new Map();
    for (const parameter of parameters) {
      const { node, title, name } = parameter;
      if (!groups.has(node)) {
        const legend = node ? h("legend", {}, `${node} ${title}`) : null;
        groups.set(node, h("fieldset", { "data-node": node }, legend, h("p", { class: "problem", role: "alert" })));
      }
      const field = new Field(name, parameter);
      this.fields.set(key(parameter), { field, parameter });
      groups.get(node).append(field.element);
    }
    const none = h("p", { class: "hint" }, "The processor has no parameters, or does not say which.");
    this.groups.replaceChildren(...(groups.size ? groups.values() : [none]));
  }

  reset() {
    for (const { field, parameter } of this.fields.values()) field.reset(parameter.value);
    this.refuse("");
    this.say("", "");
  }

  async send() {
    this.refuse("");
    const changed = [...this.fields.values()].filter(({ field }) => field.changed);
    if (!changed.length) return this.say("Nothing has changed.", "");
    const params = {};
    for (const { field, parameter } of changed) {
      if (parameter.node) {
        params.nodes ??= {};
        params.nodes[parameter.node] ??= { inputs: {} };
        params.nodes[parameter.node].inputs[parameter.name] = field.value;
      } else params[parameter.name] = field.value;
    }
    await this.ask(
      this.path,
      params,
      () => {
        for (const { field } of changed) field.initial = field.raw;
      },
      (text) => this.refuse(text),
    );
  }

  async sendWorkflow(workflow) {
    const path = this.onRequest && !this.streams ? "/api/set_prompt" : this.path;
    const refuse = (text) => this.drop.refuse(text);
    await this.ask(path, { prompts: [workflow] }, () => this.drop.accept(), refuse);
  }

  async ask(path, body, done, refused) {
    this.asking = true;
    this.keepUp();
    this.say("The processor is asked.", "");
    try {
      const { ignored = [] } = await this.service.post(path, body);
      done();
      this.say(ignored.length ? `In force, but nothing was done with ${ignored.join(", ")}.` : "In force.", "done");
    } catch (problem) {
      refused(problem.text ?? problem.message);
      this.say("Refused; what was in force before still is.", "problem");
    }
    this.asking = false;
    this.keepUp();
  }

  say(text, kind) {
    this.said.className = kind || "hint";
    setText(this.said, text);
  }

  /** Show what is wrong where it is wrong: at the field, else at the node, else at the foot. */
  refuse(text) {
    for (const { field } of this.fields.values()) field.refuse("");
    const notes = this.groups.querySelectorAll("fieldset > .problem");
    for (const note of notes) setText(note, "");
    if (!text) return;
    const names = [...this.fields.values()].filter(({ parameter }) => !parameter.node).map(({ field }) => field.name);
    for (const { node, input, text: said } of located(text, names)) {
      const known = this.fields.get(`${node} ${input}`);
      const note = [...notes].find((each) => each.parentElement.dataset.node === node) ?? notes[0];
      if (known) known.field.refuse(said);
      else if (note) setText(note, `${note.textContent} ${said}`.trim());
    }
  }
}

const key = ({ node, name }) => `${node} ${name}`;
