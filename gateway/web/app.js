// Start: who is here decides what is shown.
import { api, setToken, signedOut } from "./api.js";
import { h, replace } from "./dom.js";
import { showMail, hideMail } from "./mail.js";
import { showSession } from "./session.js";
import { toast } from "./toast.js";

const root = document.getElementById("app");

function enter(me) {
  setToken(me.csrf_token);
  showMail(root, me, { leave, setMe: (next) => setToken(next.csrf_token) });
}

async function leave() {
  try {
    await api.logout();
  } catch (e) {
    if (e.status !== 401) {
      toast.error(e);
      return;
    }
  }
  out();
}

function out() {
  hideMail();
  setToken("");
  history.replaceState(null, "", "/");
  showSession(root, enter);
}

function unreachable(e) {
  replace(root, h("main", { class: "lonely" },
    h("img", { src: "/logo.svg", alt: "", width: 56, height: 56 }),
    h("h1", {}, "PennCloud is not answering"),
    h("p", {}, e.message),
    h("button", { type: "button", class: "primary", onclick: start }, "Try again")));
}

async function start() {
  replace(root, h("main", { class: "lonely", "aria-busy": "true" },
    h("img", { src: "/logo.svg", alt: "PennCloud", width: 56, height: 56, class: "breathing" })));
  try {
    enter(await api.me());
  } catch (e) {
    if (e.status === 401) showSession(root, enter);
    else unreachable(e);
  }
}

signedOut.addEventListener("out", () => {
  if (!document.querySelector(".shell")) return;
  out();
  toast.say("Your session has ended. Please log in again.");
});

start();
