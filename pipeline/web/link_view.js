// What joins two stages: an arrow, and for a link of frames its slots, how many are taken, and what was dropped there.

import { h, setClass, setText, svg } from "./dom.js";
import { counts } from "./format.js";

const NOT_DROPPED = ["delivered", "passed_on", "retry", "added"];

export class LinkView {
  constructor(name) {
    this.slots = h("div", { class: "slots", "aria-hidden": "true" });
    this.depth = h("div", {}, "bytes");
    this.drops = h("div", { class: "hint" });
    const arrow = svg(
      "svg",
      { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("path", { class: "wire", d: "M0 7H98M91 2L98 7L91 12", "vector-effect": "non-scaling-stroke" }),
    );
    const title = h("div", { class: "name" }, name);
    this.element = h("li", { class: "link", "data-link": name }, title, arrow, this.slots, this.depth, this.drops);
  }

  show({ slots, in_flight, policy, outcomes }) {
    while (this.slots.childElementCount > slots.length) this.slots.lastChild.remove();
    while (this.slots.childElementCount < slots.length) this.slots.append(h("span", { class: "slot" }));
    slots.forEach((slot, number) => {
      const cell = this.slots.children[number];
      setClass(cell, `slot ${slot.state.toLowerCase()}`);
      cell.title = slot.owner ? `${slot.state}, frame ${slot.seq}, ${slot.owner}` : slot.state;
    });
    setText(this.depth, `${in_flight} of ${slots.length}, ${policy}`);
    const dropped = Object.entries(outcomes).filter(([outcome]) => !NOT_DROPPED.includes(outcome));
    const said = counts(Object.fromEntries(dropped));
    setText(this.drops, said ? `dropped: ${said}` : "");
  }
}
