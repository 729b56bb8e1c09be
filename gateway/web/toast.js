// Short messages at the edge of the page, one at a time, some with an action.
import { h, icon, replace } from "./dom.js";

let timer = 0;

function clear() {
  clearTimeout(timer);
  replace(document.getElementById("toasts"));
}

function show(kind, text, action) {
  clearTimeout(timer);
  const button = action && h("button", { type: "button", class: "toast-action",
    onclick: () => { clear(); action.run(); } }, action.label);
  const toast = h("div", { class: `toast ${kind}` }, h("span", {}, text), button,
    h("button", { type: "button", class: "toast-close", "aria-label": "Dismiss", onclick: clear }, icon("close")));
  replace(document.getElementById("toasts"), toast);
  timer = setTimeout(clear, kind === "error" ? 9000 : action ? 7000 : 4000);
}

export const toast = {
  say: (text, action) => show("info", text, action),
  error: (e, action) => show("error", e instanceof Error ? e.message : String(e), action),
  clear,
};
