// Light or dark: as the system has it, or as the button says.

import { setText } from "./dom.js";

const KEPT = "livepipe-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };

export function keepTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = localStorage.getItem(KEPT) ?? "system";
  if (!(chosen in NEXT)) chosen = "system";

  function apply() {
    const dark = chosen === "dark" || (chosen === "system" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    setText(button, `Colours: ${chosen}`);
  }

  button.addEventListener("click", () => {
    chosen = NEXT[chosen];
    localStorage.setItem(KEPT, chosen);
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}
