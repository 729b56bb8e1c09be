// Log in and sign up.
import { api } from "./api.js";
import { h, replace } from "./dom.js";
import { toast } from "./toast.js";

function field(id, label, props, hint) {
  return h("div", { class: "field" },
    h("label", { for: id }, label),
    h("input", { id, name: id, required: true, "aria-describedby": hint ? `${id}-hint` : null, ...props }),
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
}

const SIDES = {
  login: {
    title: "Welcome back", verb: "Log in", other: "signup",
    question: "New here?", answer: "Create an account",
    fields: () => [
      field("username", "Username", { autocomplete: "username", autocapitalize: "none", spellcheck: "false" }),
      field("password", "Password", { type: "password", autocomplete: "current-password" }),
    ],
    run: (f) => api.login(f.username.value.trim(), f.password.value),
  },
  signup: {
    title: "Create your account", verb: "Sign up", other: "login",
    question: "Have an account?", answer: "Log in",
    fields: () => [
      field("display_name", "Your name", { autocomplete: "name", required: false, maxlength: 100 }),
      field("username", "Username", { autocomplete: "username", autocapitalize: "none", spellcheck: "false", maxlength: 64,
        pattern: "[A-Za-z0-9]+([._\\-][A-Za-z0-9]+)*" }, "Letters, digits, and single dots, dashes or underscores between them."),
      field("password", "Password", { type: "password", autocomplete: "new-password", minlength: 8 }, "At least 8 characters."),
    ],
    run: (f) => api.signup(f.username.value.trim().toLowerCase(), f.password.value, f.display_name.value.trim()),
  },
};

function form(side, entered, swap) {
  const error = h("p", { class: "form-error", role: "alert" });
  const button = h("button", { type: "submit", class: "primary wide" }, side.verb);
  const submit = async (event) => {
    event.preventDefault();
    replace(error);
    button.disabled = true;
    button.classList.add("busy");
    try {
      const me = await side.run(event.target.elements);
      toast.clear();
      entered(me);
    } catch (e) {
      replace(error, e.message);
      button.disabled = false;
      button.classList.remove("busy");
      event.target.elements.password.select();
    }
  };
  return h("form", { class: "card", onsubmit: submit },
    h("h1", {}, side.title), side.fields(), error, button,
    h("p", { class: "swap" }, side.question, " ",
      h("button", { type: "button", class: "link", onclick: () => swap(side.other) }, side.answer)));
}

export function showSession(root, entered, which = "login") {
  document.title = "PennCloud";
  const swap = (other) => showSession(root, entered, other);
  replace(root, h("main", { class: "welcome" },
    h("section", { class: "pitch" },
      h("div", { class: "brand large" }, h("img", { src: "/logo.svg", alt: "", width: 52, height: 52 }), h("span", {}, "PennCloud")),
      h("p", { class: "motto" }, "Mail that stays."),
      h("p", { class: "pitch-text" }, "What you are told is sent or stored is on several disks at once. Machines may fail; your mail does not.")),
    form(SIDES[which], entered, swap)));
  root.querySelector("input").focus();
}
