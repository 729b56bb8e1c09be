// The mail page: folders at the side, a list, a message. This file holds what
// is known (state) and what can be done; list.js and reader.js draw.
import { api, ApiError } from "./api.js";
import { openCompose, composeOpen, closeCompose } from "./compose.js";
import { h, icon, iconButton, replace } from "./dom.js";
import { plural, size } from "./format.js";
import { bindKeys, showHelp } from "./keys.js";
import { createList } from "./list.js";
import { listen } from "./live.js";
import { showPassword } from "./password.js";
import { createReader } from "./reader.js";
import { toast } from "./toast.js";

const ORDER = ["inbox", "sent", "drafts", "archive", "junk", "trash"];
const NAMES = { inbox: "Inbox", sent: "Sent", drafts: "Drafts", archive: "Archive", junk: "Junk", trash: "Trash" };
const LIVE = {
  live: "New mail appears by itself",
  polling: "Looking for new mail every 5 seconds",
  offline: "No connection; trying again",
};

let page = null;

export function folderName(f) {
  return NAMES[f?.role || f?.id] ?? f?.name ?? "";
}

function sortFolders(folders) {
  const place = (f) => (ORDER.includes(f.role) ? ORDER.indexOf(f.role) : ORDER.length);
  return [...folders].sort((a, b) => place(a) - place(b) || a.name.localeCompare(b.name));
}

function parseRoute() {
  const [folder, uid] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  return { folder: folder || "inbox", uid: uid || null };
}

class MailPage {
  constructor(root, me, session) {
    this.root = root;
    this.me = me;
    this.session = session;
    this.folders = [];
    this.folder = "inbox";
    this.uid = null;
    this.ends = [];
  }

  // ---- drawing ----

  draw() {
    this.nav = h("nav", { class: "folders", "aria-label": "Folders" });
    this.status = h("p", { class: "live", role: "status" });
    this.usage = h("div", { class: "usage" });
    this.list = createList(this);
    this.reader = createReader(this);
    this.side = h("aside", { class: "side", id: "side" },
      h("a", { class: "brand", href: "#/inbox" }, h("img", { src: "/logo.svg", alt: "", width: 32, height: 32 }), h("span", {}, "PennCloud")),
      h("button", { type: "button", class: "primary compose-button", onclick: () => this.compose() }, icon("compose"), "Write"),
      this.nav, h("div", { class: "spring" }), this.status, this.usage, this.account());
    this.shade = h("div", { class: "shade", onclick: () => this.toggleSide(false) });
    this.shell = h("div", { class: "shell" }, this.side, this.shade, this.list.node, this.reader.node,
      h("button", { type: "button", class: "primary float", "aria-label": "Write a message", onclick: () => this.compose() }, icon("compose")));
    replace(this.root, this.shell);
    this.drawUsage();
    this.setLive("polling");
  }

  account() {
    return h("div", { class: "account" },
      h("div", { class: "account-name" }, h("strong", {}, this.me.display_name || this.me.username),
        h("span", {}, this.me.address)),
      iconButton("help", "Keyboard shortcuts (?)", showHelp),
      iconButton("key", "Change password", () => showPassword((me) => this.session.setMe(me))),
      iconButton("leave", "Log out", () => this.session.leave()));
  }

  drawUsage() {
    const u = this.me.usage;
    if (!u) return;
    const meter = h("meter", { min: 0, max: u.limit, high: u.limit * 0.9, value: u.bytes, "aria-label": "Space used" });
    replace(this.usage, meter, h("span", {}, `${size(u.bytes)} of ${size(u.limit)} used`));
  }

  drawFolders() {
    replace(this.nav, h("ul", {}, this.folders.map((f) => {
      const count = f.role === "drafts" ? f.total : f.role === "trash" || f.role === "sent" ? 0 : f.unread;
      const what = f.role === "drafts" ? "draft" : "unread message";
      return h("li", {}, h("a", { href: `#/${f.id}`, class: f.id === this.folder ? "here" : "",
        "aria-current": f.id === this.folder ? "page" : null },
        icon(ORDER.includes(f.role) ? f.role : "folder"), h("span", { class: "folder-name" }, folderName(f)),
        count > 0 && h("span", { class: `count ${f.role === "drafts" ? "quiet-count" : ""}`, "aria-label": plural(count, what) }, count > 999 ? "999+" : count)));
    })));
    this.list.drawTotal();
    const inbox = this.folders.find((f) => f.role === "inbox");
    document.title = `${inbox?.unread ? `(${inbox.unread}) ` : ""}${folderName(this.current())} · PennCloud`;
  }

  setLive(state) {
    this.status.className = `live ${state}`;
    replace(this.status, h("span", { class: "dot" }), LIVE[state]);
    this.shell.classList.toggle("is-offline", state === "offline");
  }

  toggleSide(open) {
    this.shell.classList.toggle("side-open", open);
    if (open) this.side.querySelector("a, button").focus();
  }

  current() {
    return this.folders.find((f) => f.id === this.folder);
  }

  // ---- going places ----

  async route() {
    const to = parseRoute();
    this.toggleSide(false);
    const moved = to.folder !== this.folder || !this.list.loaded;
    this.folder = to.folder;
    this.uid = to.uid;
    this.shell.classList.toggle("reading", to.uid !== null);
    this.drawFolders();
    if (moved) await this.list.load();
    this.list.mark(this.uid);
    if (this.uid === null) this.reader.clear();
    else await this.openMessage(this.uid);
  }

  go(uid) {
    // The address follows in its own time; the next key must not wait for it.
    this.uid = uid ?? null;
    location.hash = uid ? `#/${encodeURIComponent(this.folder)}/${uid}` : `#/${encodeURIComponent(this.folder)}`;
  }

  async openMessage(uid) {
    const entry = this.list.find(uid);
    if (this.folder === "drafts") {
      this.go(null);
      await this.compose({ draft: uid });
      return;
    }
    const message = await this.reader.load(uid);
    if (message && !message.read && this.uid === uid) {
      if (entry) this.list.update([uid], { read: true });
      this.count(this.folder, -1);
      api.act([uid], "read").catch((e) => toast.error(e));
    }
  }

  count(folder, unread, total = 0) {
    const f = this.folders.find((x) => x.id === folder);
    if (!f) return;
    f.unread = Math.max(0, f.unread + unread);
    f.total = Math.max(0, f.total + total);
    this.drawFolders();
  }

  async refresh() {
    const [answer] = await Promise.all([api.folders(), this.list.refresh()]);
    this.folders = sortFolders(answer.folders);
    this.drawFolders();
    this.askUsage();
  }

  // Nobody waits for it, and an old figure does no harm.
  askUsage() {
    api.me().then((me) => { this.me = me; this.drawUsage(); }).catch(() => {});
  }

  // ---- doing things ----

  // The messages that a command is about: the selected, else the open one,
  // else the one under the cursor.
  subjects() {
    const selected = this.list.selected();
    if (selected.length) return selected;
    const uid = this.uid ?? this.list.cursor;
    const entry = uid && this.list.find(uid);
    return entry ? [entry] : [];
  }

  async flags(entries, action, change) {
    if (!entries.length) return;
    const uids = entries.map((e) => e.uid);
    const before = entries.map((e) => ({ ...e }));
    this.list.update(uids, change);
    this.reader.update(uids, change);
    const delta = "read" in change ? before.filter((e) => e.read !== change.read).length * (change.read ? -1 : 1) : 0;
    this.count(this.folder, delta);
    try {
      await api.act(uids, action);
    } catch (e) {
      for (const old of before) this.list.update([old.uid], old);
      this.count(this.folder, -delta);
      toast.error(e);
    }
  }

  star(entries = this.subjects()) {
    const on = !entries.every((e) => e.flagged);
    return this.flags(entries, on ? "flag" : "unflag", { flagged: on });
  }

  markUnread(entries = this.subjects()) {
    const read = entries.every((e) => !e.read);
    const done = this.flags(entries, read ? "read" : "unread", { read });
    if (!read && this.uid) this.go(null);
    return done;
  }

  // Where the eye goes when these rows have left.
  after(entries) {
    if (!this.uid || !entries.some((e) => e.uid === this.uid)) return;
    const next = this.list.neighbour(this.uid, entries);
    const wide = matchMedia("(min-width: 980px)").matches;
    this.go(wide ? next : null);
  }

  async take(entries, folder, words) {
    if (!entries.length) return;
    const from = this.folder;
    const uids = entries.map((e) => e.uid);
    const unread = entries.filter((e) => !e.read).length;
    this.after(entries);
    this.list.remove(uids);
    this.count(from, -unread, -entries.length);
    try {
      await (folder ? api.act(uids, "move", folder) : api.act(uids, "delete"));
      this.count(folder, unread, entries.length);
      toast.say(words, folder && { label: "Undo", run: () => this.untake(uids, from) });
    } catch (e) {
      toast.error(e);
    }
    if (this.folder === from) this.list.refresh().catch(() => {});
  }

  async untake(uids, folder) {
    try {
      await api.act(uids, "move", folder);
      await this.refresh();
    } catch (e) {
      toast.error(e);
    }
  }

  archive(entries = this.subjects()) {
    const to = this.folder === "archive" ? "inbox" : "archive";
    const words = to === "archive" ? "archived" : "moved to the inbox";
    return this.take(entries, to, `${plural(entries.length, "message")} ${words}`);
  }

  remove(entries = this.subjects()) {
    const final = this.folder === "trash" || this.folder === "drafts";
    return this.take(entries, final ? null : "trash",
      `${plural(entries.length, "message")} ${final ? "deleted for good" : "moved to the trash"}`);
  }

  async compose(options = {}) {
    this.toggleSide(false);
    await openCompose({
      me: this.me,
      ...options,
      onchange: () => this.refresh().catch(() => {}),
    });
  }

  // KIND: "reply", "replyAll", "forward".
  async respond(kind) {
    const uid = this.uid ?? this.list.cursor;
    if (!uid) return;
    try {
      const message = this.reader.message?.uid === uid ? this.reader.message : await api.message(uid);
      await this.compose({ [kind]: message });
    } catch (e) {
      toast.error(e);
    }
  }

  // ---- life ----

  async start() {
    this.draw();
    const onHash = () => this.route().catch((e) => this.fail(e));
    addEventListener("hashchange", onHash);
    this.ends.push(() => removeEventListener("hashchange", onHash));
    this.ends.push(bindKeys({
      next: () => this.list.step(1), previous: () => this.list.step(-1),
      open: () => this.list.cursor && this.go(this.list.cursor),
      close: () => (this.list.selected().length ? this.list.clearSelection() : this.go(null)),
      compose: () => this.compose(), reply: () => this.respond("reply"),
      replyAll: () => this.respond("replyAll"), forward: () => this.respond("forward"),
      archive: () => this.archive(), remove: () => this.remove(), star: () => this.star(),
      select: () => this.list.toggle(this.list.cursor), unread: () => this.markUnread(), help: showHelp,
    }));
    try {
      this.folders = sortFolders((await api.folders()).folders);
    } catch (e) {
      this.fail(e);
    }
    await this.route().catch((e) => this.fail(e));
    if (!this.me.usage) this.askUsage();
    this.ends.push(listen({ change: () => this.refresh(), state: (s) => this.setLive(s) }));
  }

  fail(e) {
    if (e instanceof ApiError && e.status === 401) return;
    toast.error(e, { label: "Try again", run: () => this.refresh().then(() => this.route()).catch((x) => this.fail(x)) });
  }

  stop() {
    for (const end of this.ends) end();
    closeCompose();
  }
}

export function showMail(root, me, session) {
  hideMail();
  page = new MailPage(root, me, session);
  page.start();
}

export function hideMail() {
  page?.stop();
  page = null;
}

addEventListener("beforeunload", (event) => {
  if (composeOpen()) event.preventDefault();
});
