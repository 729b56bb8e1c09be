// The list of a folder's messages: newest first, more as one scrolls.
import { api } from "./api.js";
import { h, icon, iconButton, replace } from "./dom.js";
import { called, initials, person, plural, shortDate, tint } from "./format.js";
import { folderName } from "./mail.js";

const EMPTY = {
  inbox: ["Nothing waits for you", "New mail appears here by itself."],
  sent: ["Nothing sent yet", "What you send is kept here."],
  drafts: ["No drafts", "Messages you close before sending are kept here."],
  archive: ["The archive is empty", "Press e to move a message here."],
  junk: ["No junk", "May it stay that way."],
  trash: ["The trash is empty", "Deleted messages wait here."],
};

export function createList(page) {
  return new MessageList(page);
}

class MessageList {
  constructor(page) {
    this.page = page;
    this.entries = [];
    this.rows = new Map();
    this.chosen = new Set();
    this.cursor = null;
    this.next = null;
    this.loaded = false;
    this.busy = false;
    this.head = h("header", { class: "list-head" });
    this.total = h("span", { class: "list-total" });
    this.rowsNode = h("ol", { class: "rows", "aria-label": "Messages" });
    this.foot = h("div", { class: "list-foot" });
    this.scroll = h("div", { class: "list-scroll" }, this.rowsNode, this.foot);
    this.node = h("section", { class: "list", "aria-label": "Message list" }, this.head, this.scroll);
    new IntersectionObserver((seen) => {
      if (seen.some((s) => s.isIntersecting)) this.more();
    }, { root: this.scroll, rootMargin: "600px" }).observe(this.foot);
  }

  // ---- drawing ----

  drawHead() {
    const n = this.chosen.size;
    const folder = this.page.current();
    const p = this.page;
    if (n > 0) {
      const archived = p.folder === "archive";
      replace(this.head,
        iconButton("close", "Clear the selection", () => this.clearSelection()),
        h("h2", {}, `${n} selected`), h("div", { class: "spring" }),
        iconButton("unread", "Mark as read or unread (Shift+U)", () => p.markUnread()),
        iconButton("star", "Flag or unflag (s)", () => p.star()),
        iconButton(archived ? "inbox" : "archive", archived ? "Move to the inbox (e)" : "Archive (e)", () => p.archive()),
        iconButton("trash", "Delete (#)", () => p.remove()));
      this.head.classList.add("selecting");
      return;
    }
    this.head.classList.remove("selecting");
    replace(this.head,
      iconButton("menu", "Show folders", () => p.toggleSide(true), { class: "icon-button only-narrow", "aria-controls": "side" }),
      h("h2", {}, folderName(folder) || "Mail"),
      this.total, h("div", { class: "spring" }),
      iconButton("refresh", "Look for new mail", (e) => this.reload(e.currentTarget)));
    this.drawTotal();
  }

  // Apart from the rest, as counts may come later than the rows.
  drawTotal() {
    const folder = this.page.current();
    this.total.textContent = folder ? plural(folder.total, "message") : "";
  }

  async reload(button) {
    button.classList.add("turning");
    try {
      await this.page.refresh();
    } catch (e) {
      this.page.fail(e);
    }
    button.classList.remove("turning");
  }

  row(entry) {
    const outgoing = this.page.folder === "sent" || this.page.folder === "drafts";
    const who = person(outgoing ? entry.to : entry.from);
    const name = outgoing ? (entry.to ? `To ${called(who)}` : "No recipient yet") : called(who);
    const unread = !entry.read;
    const label = [unread && "Unread", entry.flagged && "Flagged", name, entry.subject || "No subject",
      shortDate(entry.date)].filter(Boolean).join(", ");
    const row = h("li", { class: `row${unread ? " unread" : ""}${this.chosen.has(entry.uid) ? " chosen" : ""}`, "data-uid": entry.uid },
      h("button", { type: "button", class: `avatar ${tint(who)}`, "aria-pressed": String(this.chosen.has(entry.uid)),
        "aria-label": `Select message from ${called(who)}`, onclick: (e) => { e.stopPropagation(); this.toggle(entry.uid); } },
        h("span", { class: "avatar-letters" }, initials(who)), icon("check")),
      h("a", { class: "row-link", href: `#/${encodeURIComponent(this.page.folder)}/${entry.uid}`, "aria-label": label },
        h("span", { class: "row-who" }, name),
        h("span", { class: "row-marks" },
          entry.answered && h("span", { title: "Answered" }, icon("reply")),
          entry.attachments > 0 && h("span", { title: plural(entry.attachments, "attachment") }, icon("clip"))),
        h("time", { class: "row-date", datetime: entry.date ?? "" }, shortDate(entry.date)),
        h("span", { class: "row-subject" }, entry.subject || "(no subject)"),
        h("span", { class: "row-snippet" }, entry.snippet)),
      iconButton("star", entry.flagged ? "Unflag" : "Flag", () => this.page.star([entry]),
        { class: `icon-button row-star${entry.flagged ? " on" : ""}`, "aria-pressed": String(entry.flagged) }));
    return row;
  }

  // Keeps the rows that have not changed, so that nothing flickers and the
  // focus stays.
  draw() {
    const focused = document.activeElement?.closest?.(".row")?.dataset.uid;
    const next = new Map();
    for (const e of this.entries) {
      const key = JSON.stringify([e, this.chosen.has(e.uid), this.page.folder, shortDate(e.date)]);
      const old = this.rows.get(e.uid);
      next.set(e.uid, old?.key === key ? old : { key, node: this.row(e) });
    }
    this.rows = next;
    this.rowsNode.replaceChildren(...[...next.values()].map((r) => r.node));
    if (focused && !this.rowsNode.contains(document.activeElement))
      next.get(focused)?.node.querySelector(".row-link").focus({ preventScroll: true });
    this.mark(this.page.uid, false);
    this.drawFoot();
    this.drawHead();
    this.fill();
  }

  // The observer tells only of changes: an end that was in sight and still is
  // must be asked for.
  fill() {
    requestAnimationFrame(() => {
      const seen = this.foot.getBoundingClientRect().top < this.scroll.getBoundingClientRect().bottom + 600;
      if (seen) this.more();
    });
  }

  drawFoot() {
    const empty = EMPTY[this.page.folder] ?? ["This folder is empty", ""];
    if (!this.loaded) replace(this.foot, skeletons(8));
    else if (this.next) replace(this.foot, skeletons(2));
    else if (!this.entries.length)
      replace(this.foot, h("div", { class: "empty" }, icon(EMPTY[this.page.folder] ? this.page.folder : "folder"), h("h3", {}, empty[0]), h("p", {}, empty[1])));
    else replace(this.foot, h("p", { class: "list-end" }, "That is all."));
  }

  // ---- contents ----

  async load() {
    this.entries = [];
    this.chosen.clear();
    this.cursor = null;
    this.next = null;
    this.loaded = false;
    this.draw();
    this.scroll.scrollTop = 0;
    const folder = this.page.folder;
    let answer;
    try {
      answer = await api.list(folder);
    } catch (e) {
      if (folder === this.page.folder) this.drawError(e);
      return;
    }
    if (folder !== this.page.folder) return;
    this.entries = answer.messages;
    this.next = answer.next;
    this.loaded = true;
    this.draw();
  }

  drawError(e) {
    replace(this.foot, h("div", { class: "empty" }, icon("refresh"), h("h3", {}, "This folder could not be loaded"),
      h("p", {}, e.message), h("button", { type: "button", class: "quiet", onclick: () => this.load() }, "Try again")));
  }

  async more() {
    if (!this.next || this.busy || !this.loaded) return;
    this.busy = true;
    const folder = this.page.folder;
    const before = this.next;
    try {
      const answer = await api.list(folder, before);
      if (folder === this.page.folder && before === this.next) {
        const known = new Set(this.entries.map((e) => e.uid));
        this.entries.push(...answer.messages.filter((m) => !known.has(m.uid)));
        this.next = answer.next;
        this.draw();
      }
    } catch (e) {
      this.page.fail(e);
    }
    this.busy = false;
    if (folder !== this.page.folder || before !== this.next) this.fill();
  }

  // Reads the newest page anew and joins it with what is known below it.
  async refresh() {
    if (!this.loaded) return this.load();
    const folder = this.page.folder;
    const answer = await api.list(folder);
    if (folder !== this.page.folder || !this.loaded) return;
    const fresh = answer.messages;
    const last = fresh.length ? this.entries.findIndex((e) => e.uid === fresh[fresh.length - 1].uid) : -1;
    if (last >= 0 && answer.next) {
      this.entries = [...fresh, ...this.entries.slice(last + 1)];
    } else {
      this.entries = fresh;
      this.next = answer.next;
    }
    for (const uid of this.chosen) if (!this.find(uid)) this.chosen.delete(uid);
    this.draw();
  }

  find(uid) {
    return this.entries.find((e) => e.uid === uid);
  }

  update(uids, change) {
    for (const e of this.entries) if (uids.includes(e.uid)) Object.assign(e, change);
    this.draw();
  }

  remove(uids) {
    if (uids.includes(this.cursor)) this.cursor = this.neighbour(this.cursor, uids.map((uid) => ({ uid })));
    this.entries = this.entries.filter((e) => !uids.includes(e.uid));
    for (const uid of uids) this.chosen.delete(uid);
    this.draw();
  }

  // The nearest message that stays when LEAVING go.
  neighbour(uid, leaving) {
    const gone = new Set(leaving.map((e) => e.uid));
    const at = this.entries.findIndex((e) => e.uid === uid);
    const below = this.entries.slice(at + 1).find((e) => !gone.has(e.uid));
    const above = this.entries.slice(0, Math.max(at, 0)).reverse().find((e) => !gone.has(e.uid));
    return (below ?? above)?.uid ?? null;
  }

  // ---- cursor and selection ----

  mark(uid, scroll = true) {
    if (uid) this.cursor = uid;
    for (const [id, r] of this.rows) {
      const here = id === this.cursor;
      r.node.classList.toggle("here", here);
      r.node.classList.toggle("open", id === this.page.uid);
      if (here && scroll) r.node.scrollIntoView({ block: "nearest" });
    }
  }

  step(by) {
    if (!this.entries.length) return;
    const at = this.entries.findIndex((e) => e.uid === this.cursor);
    const to = Math.min(Math.max(at + by, 0), this.entries.length - 1);
    const uid = this.entries[at < 0 ? 0 : to].uid;
    this.mark(uid);
    if (this.page.uid) this.page.go(uid);
    else this.rows.get(uid).node.querySelector(".row-link").focus({ preventScroll: true });
  }

  selected() {
    return this.entries.filter((e) => this.chosen.has(e.uid));
  }

  toggle(uid) {
    if (!uid) return;
    if (!this.chosen.delete(uid)) this.chosen.add(uid);
    this.draw();
  }

  clearSelection() {
    this.chosen.clear();
    this.draw();
  }
}

function skeletons(n) {
  return h("div", { class: "skeletons", "aria-label": "Loading", role: "img" },
    Array.from({ length: n }, () => h("div", { class: "skeleton" }, h("i", {}), h("b", {}), h("b", {}))));
}
