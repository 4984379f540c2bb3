// Asks for the bearer token of a service that wants one: api.tokens in the topology.

import { h } from "./dom.js";

const KEPT = "livepipe-token";

/** The one that was kept in this browser; empty: none. */
export const keptToken = () => localStorage.getItem(KEPT) ?? "";

/** A promise of the token. `wasWrong`: there was one, and the service did not know it. */
export function askForToken(wasWrong) {
  localStorage.removeItem(KEPT);
  return new Promise((resolve) => show(wasWrong, resolve));
}

function show(wasWrong, resolve) {
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const keep = h("input", { id: "keep-token", type: "checkbox" });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "token-title" }, "This service wants a token"),
    h("p", { class: "hint" }, "One of api.tokens in the topology. It is sent to this service and to nobody else."),
    h("div", { class: "field" }, h("label", { for: "token" }, "Token"), input),
    wasWrong ? h("p", { class: "problem", role: "alert" }, "This token is not known here.") : null,
    h("div", {}, keep, h("label", { for: "keep-token" }, " Keep it in this browser")),
    h("button", { class: "primary" }, "Continue"),
  );
  const dialog = h("dialog", { "aria-labelledby": "token-title" }, form);
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // Without a token there is nothing to see.
  dialog.addEventListener("close", () => {
    const token = input.value.trim();
    if (keep.checked) localStorage.setItem(KEPT, token);
    dialog.remove();
    resolve(token);
  });
  document.body.append(dialog);
  dialog.showModal();
}
