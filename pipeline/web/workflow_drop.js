// Takes a ComfyUI workflow, API format, from a file that is chosen or dropped, and shows its nodes, each with what is
// wrong with it.

import { h, setText } from "./dom.js";
import { located } from "./problems.js";

export class WorkflowDrop {
  /** `took(workflow)` hears of each one that could be read. */
  constructor(label, took = () => {}) {
    this.took = took;
    this.workflow = null;
    this.input = h("input", { id: `workflow-${label}`, type: "file", accept: ".json,application/json" });
    this.said = h("p", { class: "hint", role: "status" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.nodes = h("ul", { class: "nodes" });
    this.element = h(
      "div",
      { class: "drop" },
      h("label", { for: this.input.id }, "A workflow, ComfyUI's API format: choose a JSON file, or drop it here"),
      this.input,
      this.said,
      this.problem,
      this.nodes,
    );
    this.input.addEventListener("change", () => {
      this.read(this.input.files[0]);
      this.input.value = ""; // Else the same file, mended, could not be chosen again.
    });
    this.element.addEventListener("dragover", (event) => event.preventDefault());
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      this.read(event.dataTransfer.files[0]);
    });
  }

  async read(file) {
    if (!file) return;
    this.clear();
    try {
      this.workflow = JSON.parse(await file.text());
    } catch (problem) {
      this.refuse(`${file.name} is no JSON: ${problem.message}`);
      return;
    }
    const nodes = Object.entries(Object(this.workflow));
    setText(this.said, `${file.name}: ${nodes.length} nodes`);
    this.nodes.replaceChildren(
      ...nodes.map(([id, node]) => {
        const title = node?._meta?.title ?? node?.class_type ?? "no class";
        return h("li", { "data-node": id }, `${id} ${title}`, h("span", { class: "problem" }));
      }),
    );
    this.took(this.workflow);
  }

  clear() {
    this.workflow = null;
    setText(this.said, "");
    this.problem.hidden = true;
    this.nodes.replaceChildren();
  }

  accept() {
    this.refuse("");
  }

  /** Show what is wrong, at the nodes that it names. */
  refuse(text) {
    for (const node of this.nodes.children) setText(node.lastChild, "");
    const rest = [];
    for (const { node, text: said } of text ? located(text) : []) {
      const row = [...this.nodes.children].find((each) => each.dataset.node === node);
      if (row) setText(row.lastChild, `${row.lastChild.textContent} ${said}`);
      else rest.push(said);
    }
    setText(this.problem, rest.join("; "));
    this.problem.hidden = !rest.length;
  }
}
