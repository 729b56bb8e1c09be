// Writing: a new message, an answer, a forward, a draft taken up again. What
// is closed unsent is kept as a draft.
import { api } from "./api.js";
import { h, icon, iconButton, replace } from "./dom.js";
import { called, longDate, quoted, size, withPrefix, written } from "./format.js";
import { toast } from "./toast.js";

const LIMIT = 18 * 1024 * 1024;
let open = null;

export function composeOpen() {
  return open !== null && open.dirty();
}

export function closeCompose() {
  open?.node.remove();
  open = null;
}

function base64(buffer) {
  const bytes = new Uint8Array(buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000)
    text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

async function partOf(uid, part) {
  const answer = await fetch(api.partUrl(uid, part.number), { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`The attachment ${part.name ?? part.number} could not be read.`);
  const blob = await answer.blob();
  return { name: part.name || `part-${part.number}`, content_type: part.type, size: blob.size, blob };
}

const partsOf = (m) => Promise.all((m.parts ?? []).filter((p) => p.attachment).map((p) => partOf(m.uid, p)));
const line = (people) => (people ?? []).map(written).join(", ");

function answerTo(m, all, me) {
  const own = me.address.toLowerCase();
  const mine = m.from?.some((p) => p.address.toLowerCase() === own);
  const first = mine ? m.to ?? [] : m.reply_to?.length ? m.reply_to : m.from ?? [];
  const used = new Set([own, ...first.map((p) => p.address.toLowerCase())]);
  const rest = all ? [...(mine ? [] : m.to ?? []), ...m.cc ?? []].filter((p) => {
    const key = p.address.toLowerCase();
    return !used.has(key) && used.add(key);
  }) : [];
  return { to: line(first), cc: line(rest), subject: withPrefix("Re:", m.subject), text: quoted(m), in_reply_to: m.uid };
}

async function forwarded(m) {
  const from = m.from?.[0] ?? { name: "", address: "" };
  const head = ["---------- Forwarded message ----------", `From: ${written(from)}`,
    `Date: ${longDate(m.date ?? m.received)}`, `Subject: ${m.subject}`, `To: ${line(m.to)}`].join("\n");
  return { subject: withPrefix("Fwd:", m.subject), text: `\n\n${head}\n\n${m.text}`, files: await partsOf(m) };
}

async function fromDraft(uid) {
  const m = await api.message(uid);
  return { to: line(m.to), cc: line(m.cc), bcc: line(m.bcc), subject: m.subject, text: m.text.replace(/\n$/, ""), draft: uid, files: await partsOf(m) };
}

async function startOf(o) {
  if (o.reply) return answerTo(o.reply, false, o.me);
  if (o.replyAll) return answerTo(o.replyAll, true, o.me);
  if (o.forward) return forwarded(o.forward);
  if (o.draft) return fromDraft(o.draft);
  return {};
}

class Compose {
  constructor(options, start) {
    this.options = options;
    this.start = start;
    this.draft = start.draft ?? null;
    this.files = start.files ?? [];
    this.busy = false;
    this.draw();
    this.saved = this.fingerprint();
  }

  input(id, label, value, hidden) {
    const node = h("input", { id: `compose-${id}`, value: value ?? "", autocomplete: "off", spellcheck: "false", autocapitalize: "none" });
    this[id] = node;
    return h("div", { class: "compose-line", hidden }, h("label", { for: `compose-${id}` }, label), node);
  }

  draw() {
    const s = this.start;
    const extra = !s.cc && !s.bcc;
    const cc = this.input("cc", "Cc", s.cc, extra);
    const bcc = this.input("bcc", "Bcc", s.bcc, extra);
    const more = h("button", { type: "button", class: "link small", hidden: !extra, onclick: () => {
      cc.hidden = bcc.hidden = false;
      more.hidden = true;
      this.cc.focus();
    } }, "Cc, Bcc");
    const to = this.input("to", "To", s.to, false);
    to.append(more);
    this.title = h("h2", { id: "compose-title" }, s.in_reply_to ? "Reply" : this.draft ? "Draft" : "New message");
    this.text = h("textarea", { id: "compose-text", "aria-label": "Message", value: s.text ?? "" });
    this.error = h("p", { class: "form-error", role: "alert" });
    this.filesNode = h("ul", { class: "compose-files", "aria-label": "Attachments" });
    this.picker = h("input", { type: "file", multiple: true, hidden: true, onchange: () => this.add([...this.picker.files]) });
    this.button = h("button", { type: "submit", class: "primary", title: "Send (Ctrl+Enter)" }, icon("sent"), "Send");
    this.node = h("form", { class: "compose", role: "dialog", "aria-labelledby": "compose-title", novalidate: true,
      onsubmit: (e) => { e.preventDefault(); this.send(); }, onkeydown: (e) => this.key(e),
      ondragover: (e) => e.preventDefault(), ondrop: (e) => { e.preventDefault(); this.add([...e.dataTransfer.files]); } },
      h("header", {}, this.title, h("div", { class: "spring" }), iconButton("close", "Close and keep as draft (Esc)", () => this.close())),
      to, cc, bcc, this.input("subject", "Subject", s.subject, false),
      this.text, this.filesNode, this.error,
      h("footer", {}, this.button, iconButton("clip", "Attach files", () => this.picker.click()), this.picker,
        h("div", { class: "spring" }), iconButton("trash", "Discard", () => this.discard())));
    this.subject.spellcheck = true;
    this.drawFiles();
  }

  drawFiles() {
    replace(this.filesNode, this.files.map((f) => h("li", { class: "file" }, icon("clip"), h("span", { class: "file-name" }, f.name),
      h("span", { class: "file-size" }, size(f.size)),
      iconButton("close", `Remove ${f.name}`, () => { this.files = this.files.filter((x) => x !== f); this.drawFiles(); }))));
  }

  add(files) {
    for (const f of files) this.files.push({ name: f.name, content_type: f.type || "application/octet-stream", size: f.size, blob: f });
    this.drawFiles();
    const all = this.files.reduce((n, f) => n + f.size, 0);
    replace(this.error, all > LIMIT ? `The attachments are ${size(all)} in all; at most ${size(LIMIT)} can be sent.` : "");
  }

  key(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      this.close();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.send();
    }
  }

  fingerprint() {
    return JSON.stringify([this.to.value, this.cc.value, this.bcc.value, this.subject.value, this.text.value, this.files.map((f) => [f.name, f.size])]);
  }

  dirty() {
    return this.fingerprint() !== this.saved;
  }

  async mail() {
    const attachments = await Promise.all(this.files.map(async (f) => (
      { name: f.name, content_type: f.content_type, data: base64(await f.blob.arrayBuffer()) })));
    return { to: this.to.value, cc: this.cc.value, bcc: this.bcc.value, subject: this.subject.value, text: this.text.value,
      attachments, ...(this.start.in_reply_to && { in_reply_to: this.start.in_reply_to }), ...(this.draft && { draft: this.draft }) };
  }

  setBusy(busy) {
    this.busy = busy;
    this.button.disabled = busy;
    this.button.classList.toggle("busy", busy);
  }

  async send() {
    if (this.busy) return;
    if (![this.to, this.cc, this.bcc].some((i) => i.value.trim())) {
      replace(this.error, "Who is it for? Please name at least one recipient.");
      this.to.focus();
      return;
    }
    replace(this.error);
    this.setBusy(true);
    try {
      await api.send(await this.mail());
      this.leave();
      toast.say("Message sent");
    } catch (e) {
      this.setBusy(false);
      replace(this.error, e.message);
    }
  }

  // Keeps what was written; a draft that has not changed stays as it is.
  async close() {
    if (this.busy) return;
    if (!this.dirty()) {
      this.leave();
      return;
    }
    this.setBusy(true);
    try {
      await api.draft(await this.mail());
      this.leave();
      toast.say("Kept in Drafts");
    } catch (e) {
      this.setBusy(false);
      replace(this.error, e.message);
    }
  }

  async discard() {
    if (this.busy) return;
    try {
      if (this.draft) await api.act([this.draft], "delete");
      this.leave();
      toast.say("Draft discarded");
    } catch (e) {
      replace(this.error, e.message);
    }
  }

  leave() {
    closeCompose();
    this.options.onchange();
  }
}

export async function openCompose(options) {
  if (open) {
    if (open.dirty()) {
      open.text.focus();
      toast.say("Please send or close the message you are writing first.");
      return;
    }
    closeCompose();
  }
  let start;
  try {
    start = await startOf(options);
  } catch (e) {
    toast.error(e);
    return;
  }
  if (open) return;
  open = new Compose(options, start);
  document.body.append(open.node);
  if (open.start.to) {
    open.text.focus();
    open.text.setSelectionRange(0, 0);
    open.text.scrollTop = 0;
  } else {
    open.to.focus();
  }
}
