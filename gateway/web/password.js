// Changing one's password, in a dialog.
import { api } from "./api.js";
import { h, icon, replace } from "./dom.js";
import { toast } from "./toast.js";

function field(id, label, autocomplete) {
  return h("div", { class: "field" }, h("label", { for: id }, label),
    h("input", { id, name: id, type: "password", required: true, autocomplete, minlength: id === "new_password" ? 8 : null }));
}

export function showPassword(changed) {
  const error = h("p", { class: "form-error", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    const f = event.target.elements;
    try {
      changed(await api.password(f.old_password.value, f.new_password.value));
      dialog.close();
      toast.say("Password changed. All other sessions have ended.");
    } catch (e) {
      replace(error, e.message);
    }
  };
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "password-title" },
    h("header", {}, h("h2", { id: "password-title" }, "Change password"),
      h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
    h("form", { onsubmit: submit },
      field("old_password", "Old password", "current-password"),
      field("new_password", "New password", "new-password"),
      h("p", { class: "hint" }, "At least 8 characters. You are logged out everywhere else."),
      error, h("button", { type: "submit", class: "primary wide" }, "Change password")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
