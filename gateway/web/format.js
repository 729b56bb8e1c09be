// How dates, sizes, people and plain text look. Pure.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const year = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });

export function shortDate(iso) {
  const then = new Date(iso ?? NaN);
  if (isNaN(then)) return "";
  const now = new Date();
  if (then.toDateString() === now.toDateString()) return clock.format(then);
  return (then.getFullYear() === now.getFullYear() ? day : year).format(then);
}

export function longDate(iso) {
  const then = new Date(iso ?? NaN);
  return isNaN(then) ? "no valid date" : whole.format(then);
}

export function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  while (bytes >= 1000 && i < units.length - 1) {
    bytes /= 1024;
    i++;
  }
  return `${bytes < 10 && i > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${units[i]}`;
}

// "Ada <ada@x.test>" -> {name: "Ada", address: "ada@x.test"}.
export function person(text) {
  const m = /^\s*(.*?)\s*<([^<>]*)>\s*$/.exec(text ?? "");
  if (!m) return { name: "", address: (text ?? "").trim() };
  return { name: m[1].replace(/^"(.*)"$/, "$1").replace(/\\(.)/g, "$1"), address: m[2] };
}

export function called(p) {
  return p.name || p.address || "(unknown)";
}

// As a header field has it.
export function written(p) {
  if (!p.name) return p.address;
  const plain = /^[\p{L}\p{N} .'_-]+$/u.test(p.name);
  const name = plain ? p.name : `"${p.name.replace(/[\\"]/g, "\\$&")}"`;
  return `${name} <${p.address}>`;
}

export function initials(p) {
  const words = called(p).replace(/@.*/, "").split(/[\s._-]+/).filter((w) => /^[\p{L}\p{N}]/u.test(w));
  const first = words[0] ? [...words[0]][0] : "?";
  const last = words.length > 1 ? [...words[words.length - 1]][0] : "";
  return (first + last).toUpperCase();
}

// One of the colours of avatars, the same for a person each time.
export function tint(p) {
  let n = 7;
  for (const c of (p.address || p.name).toLowerCase()) n = (n * 31 + c.codePointAt(0)) >>> 0;
  return `tint-${n % 8}`;
}

export function plural(n, one, many = one + "s") {
  return `${n} ${n === 1 ? one : many}`;
}

// Splits text into {text} and {text, href}: only http and https are links, and
// no more than BUDGET.links of them.
export function links(text, budget) {
  const parts = [];
  let at = 0;
  for (const m of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]+[^\s<>"'`.,;:!?)\]}]/gi)) {
    if (budget.links-- <= 0) break;
    if (m.index > at) parts.push({ text: text.slice(at, m.index) });
    parts.push({ text: m[0], href: m[0] });
    at = m.index + m[0].length;
  }
  if (at < text.length) parts.push({ text: text.slice(at) });
  return parts;
}

export function withPrefix(prefix, subject) {
  const bare = (subject ?? "").trim();
  return bare.toLowerCase().startsWith(prefix.toLowerCase()) ? bare : `${prefix} ${bare}`;
}

export function quoted(message) {
  const from = message.from?.[0] ?? { name: "", address: "" };
  const head = `On ${longDate(message.date ?? message.received)}, ${called(from)} wrote:`;
  return `\n\n${head}\n${message.text.trimEnd().split("\n").map((l) => `>${l.startsWith(">") ? "" : " "}${l}`).join("\n")}\n`;
}
