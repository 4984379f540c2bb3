// One field of a form: a label, a control for its kind, what is allowed, and where the problem with it is told.

import { h, setText } from "./dom.js";

let made = 0;

export class Field {
  /** `kind` is that of status.Parameter; `hint` says what is allowed. */
  constructor(name, { kind = "text", value = null, hint = "", min, max, step, choices = [], multiline, ...more } = {}) {
    const id = `field-${++made}`;
    this.name = name;
    this.kind = kind;
    this.control = control(
      kind,
      { id, min, max, step, multiline, "aria-describedby": `${id}-hint ${id}-problem`, ...more },
      choices,
    );
    this.problem = h("p", { class: "problem", id: `${id}-problem`, role: "alert" });
    const allowed = hint || range(min, max);
    this.element = h(
      "div",
      { class: "field", "data-field": name },
      h("label", { for: id }, name),
      h("span", { class: "hint", id: `${id}-hint` }, allowed),
      this.control,
      this.problem,
    );
    this.reset(value);
  }

  /** What is in force now. */
  reset(value) {
    this.initial = shown(this.kind, value);
    if (this.kind === "bool") this.control.checked = this.initial;
    else this.control.value = this.initial;
    if (this.kind === "choice" && this.control.value !== this.initial) {
      this.control.append(h("option", {}, this.initial)); // In force, and not among the choices that are known.
      this.control.value = this.initial;
    }
    this.refuse("");
  }

  get raw() {
    return this.kind === "bool" ? this.control.checked : this.control.value;
  }

  get changed() {
    return this.raw !== this.initial;
  }

  /** As JSON takes it. What is no number goes as text: the processor says what is wrong with it. */
  get value() {
    const { raw, kind } = this;
    if (kind === "int" || kind === "float") return raw.trim() === "" || Number.isNaN(Number(raw)) ? raw : Number(raw);
    if (kind !== "json") return raw;
    try {
      return JSON.parse(raw);
    } catch {
      return raw;
    }
  }

  refuse(problem) {
    setText(this.problem, problem);
    this.problem.hidden = !problem;
    if (problem) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
  }
}

function control(kind, { multiline, min, max, step, ...attributes }, choices) {
  if (kind === "choice") return h("select", attributes, ...choices.map((choice) => h("option", {}, choice)));
  if (kind === "bool") return h("input", { ...attributes, type: "checkbox" });
  if (kind === "int" || kind === "float") {
    // Text, so that whatever is typed reaches the processor, which alone knows what it takes.
    return h("input", { ...attributes, type: "text", inputmode: kind === "int" ? "numeric" : "decimal" });
  }
  if (kind === "json" || multiline) return h("textarea", { ...attributes, rows: 3 });
  return h("input", { type: "text", ...attributes });
}

function shown(kind, value) {
  if (kind === "bool") return Boolean(value);
  if (value === null || value === undefined) return "";
  return kind === "json" ? JSON.stringify(value) : String(value);
}

function range(min, max) {
  const known = (limit) => limit !== null && limit !== undefined;
  if (known(min) && known(max)) return `${min} to ${max}`;
  if (known(min)) return `from ${min}`;
  return known(max) ? `up to ${max}` : "";
}
