// One message: who, when, what. Plain text is shown as it is; a mail's own
// HTML only inside a frame that may run nothing and has no origin.
import { api } from "./api.js";
import { h, icon, iconButton, replace } from "./dom.js";
import { called, initials, links, longDate, plural, shortDate, size, tint } from "./format.js";

export function createReader(page) {
  return new Reader(page);
}

const PREFER = "penncloud.formatted";

class Reader {
  constructor(page) {
    this.page = page;
    this.message = null;
    this.wanted = null;
    this.node = h("main", { class: "reader", "aria-label": "Message" });
    this.clear();
  }

  clear() {
    this.message = null;
    this.wanted = null;
    replace(this.node, h("div", { class: "empty large" }, h("img", { src: "/logo.svg", alt: "", width: 64, height: 64 }),
      h("h3", {}, "Choose a message to read"),
      h("p", {}, h("kbd", {}, "j"), " and ", h("kbd", {}, "k"), " move, ", h("kbd", {}, "Enter"), " opens, ", h("kbd", {}, "?"), " shows all keys.")));
  }

  async load(uid) {
    if (this.message?.uid === uid) return this.message;
    this.wanted = uid;
    this.message = null;
    replace(this.node, this.bar(null), h("div", { class: "message-loading", "aria-busy": "true" }, h("i", {}), h("b", {}), h("b", {}), h("b", {})));
    try {
      const message = await api.message(uid);
      if (this.wanted !== uid) return null;
      this.message = message;
      this.draw();
      return message;
    } catch (e) {
      if (this.wanted !== uid || e.status === 401) return null;
      replace(this.node, this.bar(null), h("div", { class: "empty" }, icon("unread"),
        h("h3", {}, e.status === 404 ? "This message is not here any more" : "This message could not be loaded"),
        h("p", {}, e.status === 404 ? "It may have been deleted." : e.message),
        e.status !== 404 && h("button", { type: "button", class: "quiet", onclick: () => this.load(uid) }, "Try again")));
      return null;
    }
  }

  update(uids, change) {
    if (!this.message || !uids.includes(this.message.uid)) return;
    Object.assign(this.message, change);
    const star = this.node.querySelector(".bar .row-star");
    star?.classList.toggle("on", this.message.flagged);
    star?.setAttribute("aria-pressed", String(this.message.flagged));
  }

  // ---- drawing ----

  entry() {
    return this.page.list.find(this.message.uid) ?? this.message;
  }

  bar(m) {
    const p = this.page;
    const archived = p.folder === "archive";
    const back = iconButton("back", "Back to the list (u)", () => p.go(null), { class: "icon-button only-single" });
    if (!m) return h("div", { class: "bar" }, back);
    return h("div", { class: "bar", role: "toolbar", "aria-label": "Message actions" }, back,
      iconButton("reply", "Reply (r)", () => p.respond("reply")),
      this.others() > 0 && iconButton("replyAll", "Reply to all (a)", () => p.respond("replyAll")),
      iconButton("forward", "Forward (f)", () => p.respond("forward")),
      h("span", { class: "bar-gap" }),
      iconButton(archived ? "inbox" : "archive", archived ? "Move to the inbox (e)" : "Archive (e)", () => p.archive([this.entry()])),
      iconButton("trash", p.folder === "trash" ? "Delete for good (#)" : "Delete (#)", () => p.remove([this.entry()])),
      iconButton("unread", "Mark as unread (Shift+U)", () => p.markUnread([Object.assign(this.entry(), { read: true })])),
      iconButton("star", "Flag (s)", () => p.star([this.entry()]), { class: `icon-button row-star${m.flagged ? " on" : ""}`, "aria-pressed": String(m.flagged) }),
      h("div", { class: "spring" }),
      h("a", { class: "icon-button", href: api.rawUrl(m.uid), download: `${m.uid}.eml`, title: "Save the message as it came", "aria-label": "Save the message as it came" }, icon("download")));
  }

  others() {
    const own = this.page.me.address.toLowerCase();
    return [...this.message.to ?? [], ...this.message.cc ?? []].filter((p) => p.address.toLowerCase() !== own).length;
  }

  people(label, list) {
    if (!list?.length) return null;
    return h("div", {}, h("dt", {}, label), h("dd", {}, list.map((p, i) => [i > 0 && ", ",
      p.name ? h("span", { title: p.address }, p.name, h("span", { class: "address" }, ` <${p.address}>`)) : h("span", {}, p.address)])));
  }

  headers(m) {
    const from = m.from?.[0] ?? { name: "", address: "" };
    const to = [...m.to ?? [], ...m.cc ?? []];
    const own = this.page.me.address.toLowerCase();
    const short = to.map((p) => (p.address.toLowerCase() === own ? "you" : called(p)));
    const shown = short.slice(0, 3).join(", ") + (short.length > 3 ? ` and ${short.length - 3} more` : "");
    return h("header", { class: "message-head" },
      h("span", { class: `avatar still ${tint(from)}`, "aria-hidden": "true" }, h("span", { class: "avatar-letters" }, initials(from))),
      h("div", { class: "message-from" },
        h("div", { class: "message-line" }, h("strong", {}, called(from)), from.name && h("span", { class: "address" }, from.address)),
        h("details", {}, h("summary", {}, `to ${shown || "nobody"}`),
          h("dl", {}, this.people("From", m.from), this.people("Reply to", m.reply_to), this.people("To", m.to),
            this.people("Cc", m.cc), this.people("Bcc", m.bcc),
            h("div", {}, h("dt", {}, "Date"), h("dd", {}, longDate(m.date ?? m.received))),
            h("div", {}, h("dt", {}, "Size"), h("dd", {}, size(m.size ?? 0)))))),
      h("time", { class: "message-date", datetime: m.date ?? m.received ?? "", title: longDate(m.date ?? m.received) }, shortDate(m.date ?? m.received)));
  }

  // Paragraphs of what is quoted and what is not. A hostile text changes at
  // each line, half a million times: past a bound it is shown as one.
  plain(text) {
    const node = h("div", { class: "message-text" });
    const lines = text.split("\n");
    const budget = { links: 2000 };
    for (let at = 0, blocks = 1; at < lines.length; blocks++) {
      const quoted = lines[at].startsWith(">");
      let end = at + 1;
      while (end < lines.length && (blocks === 1000 || lines[end].startsWith(">") === quoted)) end++;
      const parts = links(lines.slice(at, end).join("\n"), budget).map((p) => p.href
        ? h("a", { href: p.href, target: "_blank", rel: "noopener noreferrer" }, p.text) : p.text);
      // A last line that is empty has no height by itself.
      node.append(h("p", { class: quoted ? "quote" : null }, parts, lines[end - 1] === "" && "\u200b"));
      at = end;
    }
    return node;
  }

  frame(m) {
    return h("iframe", { class: "message-frame", sandbox: "allow-popups allow-popups-to-escape-sandbox",
      referrerpolicy: "no-referrer", title: "Formatted message", src: api.htmlUrl(m.uid) });
  }

  body(m) {
    const node = h("div", { class: "message-body" });
    const draw = (formatted) => {
      const notes = [];
      if (formatted && m.remote_images > 0)
        notes.push(h("p", { class: "note" }, icon("shield"), `${plural(m.remote_images, "remote image")} not loaded, so nobody learns that you read this.`));
      if (m.body_cut || m.truncated)
        notes.push(h("p", { class: "note" }, icon("source"), "This message is too long or too deep to be shown whole. Save it to see all of it."));
      if (m.has_html && m.text.trim())
        notes.push(h("div", { class: "switch", role: "group", "aria-label": "How to show the message" },
          [["Plain text", false], ["Formatted", true]].map(([label, value]) => h("button", { type: "button", "aria-pressed": String(formatted === value),
            onclick: () => { localStorage.setItem(PREFER, String(value)); draw(value); } }, label))));
      node.classList.toggle("framed", formatted);
      replace(node, notes.length > 0 && h("div", { class: "notes" }, notes),
        formatted ? this.frame(m) : m.text.trim() ? this.plain(m.text) : h("p", { class: "message-none" }, "This message has no text."));
    };
    draw(m.has_html && (!m.text.trim() || localStorage.getItem(PREFER) === "true"));
    return node;
  }

  attachments(m) {
    const files = (m.parts ?? []).filter((p) => p.attachment);
    if (!files.length) return null;
    return h("section", { class: "files", "aria-label": "Attachments" },
      h("h3", {}, plural(files.length, "attachment")),
      h("ul", {}, files.map((p) => {
        const name = p.name || `part ${p.number}`;
        return h("li", {}, h("a", { class: "file", href: api.partUrl(m.uid, p.number), download: name, title: `Save ${name}` },
          icon("clip"), h("span", { class: "file-name" }, name), h("span", { class: "file-size" }, size(p.size))));
      })));
  }

  draw() {
    const m = this.message;
    replace(this.node, this.bar(m), h("article", { class: "message", tabindex: "-1" },
      h("h1", { class: "message-subject" }, m.subject || "(no subject)"),
      this.headers(m), this.body(m), this.attachments(m),
      h("div", { class: "message-foot" },
        h("button", { type: "button", class: "quiet", onclick: () => this.page.respond("reply") }, icon("reply"), "Reply"),
        this.others() > 0 && h("button", { type: "button", class: "quiet", onclick: () => this.page.respond("replyAll") }, icon("replyAll"), "Reply to all"),
        h("button", { type: "button", class: "quiet", onclick: () => this.page.respond("forward") }, icon("forward"), "Forward"))));
    this.node.scrollTop = 0;
    if (matchMedia("(max-width: 979px)").matches) this.node.querySelector(".message").focus({ preventScroll: true });
  }
}
