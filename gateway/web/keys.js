// The keyboard. One table: key, what it does, and where the help says so.
import { h, icon } from "./dom.js";

export const KEYS = [
  ["j", "next", "Next message"],
  ["k", "previous", "Previous message"],
  ["Enter", "open", "Open message"],
  ["u", "close", "Back to the list"],
  ["c", "compose", "Write a message"],
  ["r", "reply", "Reply"],
  ["a", "replyAll", "Reply to all"],
  ["f", "forward", "Forward"],
  ["e", "archive", "Archive"],
  ["#", "remove", "Delete"],
  ["s", "star", "Flag or unflag"],
  ["x", "select", "Select"],
  ["U", "unread", "Mark as unread"],
  ["?", "help", "These keys"],
];

function isTyping(target) {
  return target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

// Calls ACTIONS[name]() for each key; answers a function that ends it.
export function bindKeys(actions) {
  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const key = event.key === "o" ? "Enter" : event.key === "Escape" ? "u" : event.key === "Delete" ? "#" : event.key;
    // Enter on a focused control is that control's.
    if (key === "Enter" && event.target instanceof HTMLElement && event.target.closest("button, a")) return;
    const row = KEYS.find(([k]) => k === key);
    if (!row) return;
    event.preventDefault();
    actions[row[1]]();
  };
  document.addEventListener("keydown", onKey);
  return () => document.removeEventListener("keydown", onKey);
}

export function showHelp() {
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "help-title" },
    h("header", {}, h("h2", { id: "help-title" }, "Keyboard"),
      h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
    h("dl", { class: "keys" }, KEYS.map(([key, , text]) =>
      h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)))));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
}
