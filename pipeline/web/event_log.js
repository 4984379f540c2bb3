// What has happened: every supervision event, newest at the bottom, with a filter.

import { h } from "./dom.js";
import { clock } from "./format.js";

const KEPT = 500;
const LEVELS = ["debug", "info", "warning", "error"];
const NEAR_END_PX = 40;

export class EventLog {
  constructor(root) {
    this.text = h("input", { id: "event-text", type: "search", placeholder: "such as restart, or a stream's name" });
    this.level = select("event-level", [
      ["debug", "all"],
      ["warning", "warnings"],
      ["error", "errors"],
    ]);
    this.stage = select("event-stage", [["", "all"]]);
    this.list = h("ol", { class: "log", role: "log", "aria-label": "Events", "aria-live": "polite", tabindex: "0" });
    this.known = new Set();
    for (const control of [this.text, this.level, this.stage]) control.addEventListener("input", () => this.filter());
    root.append(
      h("div", { class: "filters" }, named("Words", this.text), named("Level", this.level), named("Stage", this.stage)),
      this.list,
    );
  }

  /** Before the past is told again, after a connection was lost. */
  clear() {
    this.list.replaceChildren();
  }

  add(event) {
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < NEAR_END_PX;
    this.noteStage(event.stage);
    const said = Object.entries(event.fields).filter(([, value]) => value !== "");
    const fields = said.map(([name, value]) => `${name}=${value}`);
    const row = h(
      "li",
      { class: event.level, "data-level": event.level, "data-stage": event.stage, "data-name": event.name },
      h("time", { datetime: new Date(event.time * 1000).toISOString() }, clock(event.time)),
      h("span", {}, event.stage),
      h("span", {}, h("b", {}, event.name), " ", h("span", { class: "fields" }, fields.join(" "))),
    );
    row.hidden = !this.shows(row);
    this.list.append(row);
    while (this.list.childElementCount > KEPT) this.list.firstChild.remove();
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  noteStage(stage) {
    if (this.known.has(stage)) return;
    this.known.add(stage);
    this.stage.append(h("option", { value: stage }, stage));
  }

  filter() {
    for (const row of this.list.children) row.hidden = !this.shows(row);
    this.list.scrollTop = this.list.scrollHeight;
  }

  shows(row) {
    const words = this.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const said = row.textContent.toLowerCase();
    return (
      LEVELS.indexOf(row.dataset.level) >= LEVELS.indexOf(this.level.value) &&
      (!this.stage.value || row.dataset.stage === this.stage.value) &&
      words.every((word) => said.includes(word))
    );
  }
}

function select(id, options) {
  return h("select", { id }, ...options.map(([value, text]) => h("option", { value }, text)));
}

function named(name, control) {
  return h("div", { class: "field" }, h("label", { for: control.id }, name), control);
}
