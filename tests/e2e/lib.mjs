// What the browser tests share: a gateway to talk to, mail to put in, a
// browser whose every attempt to reach the outside lands in a trap.
//
// PENN_URL and PENN_SMTP (host:port) name a running cluster; without them a
// gateway on a store of its own (build/dev_gateway) is started.
// PENN_NODE_MODULES: where playwright-core is; CHROMIUM: the browser.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const top = path.resolve(here, "../..");
const require = createRequire(path.join(process.env.PENN_NODE_MODULES ?? process.cwd(), "x.js"));

let failures = 0;
let passes = 0;

export async function test(name, run) {
  const began = Date.now();
  try {
    await run();
    passes++;
    console.log(`ok   ${name} (${Date.now() - began} ms)`);
  } catch (e) {
    failures++;
    console.log(`FAIL ${name}: ${e.stack ?? e}`);
  }
}

export function summary() {
  console.log(`${passes} passed, ${failures} failed`);
  return failures === 0 && passes > 0 ? 0 : 1;
}

export function check(condition, text) {
  if (!condition) throw new Error(text);
}

// Waits until PROBE answers something true.
export async function until(what, probe, ms = 60000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

// ---- the gateway ----

async function startOwn() {
  const program = process.env.DEV_GATEWAY ?? path.join(top, "build/dev_gateway");
  const child = spawn(program, ["0", path.join(top, "gateway/web")], { stdio: ["pipe", "pipe", "inherit"] });
  const waiting = [];
  let rest = "";
  child.stdout.on("data", (data) => {
    rest += data;
    for (let at; (at = rest.indexOf("\n")) >= 0; rest = rest.slice(at + 1)) waiting.shift()?.(rest.slice(0, at));
  });
  const line = () => new Promise((done) => waiting.push(done));
  const port = (await line()).split(" ")[1];
  return {
    url: `http://127.0.0.1:${port}`,
    async deliver(user, bytes) {
      const answer = line();
      child.stdin.write(`${user} ${bytes.length}\n`);
      child.stdin.write(bytes);
      const text = await answer;
      check(text.startsWith("ok"), `delivery: ${text}`);
    },
    stop: () => new Promise((done) => { child.on("exit", done); child.stdin.end(); }),
  };
}

// Speaks SMTP just well enough to deliver.
async function smtp(address, domain, user, bytes) {
  const at = address.lastIndexOf(":");
  const socket = net.connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)) });
  let text = "";
  let wake = () => {};
  socket.on("data", (data) => { text += data; wake(); });
  socket.on("error", () => wake());
  socket.on("close", () => wake());
  const reply = async (code) => {
    while (!/^\d{3} .*\r\n/m.test(text)) {
      check(!socket.closed, "SMTP: connection closed");
      await new Promise((done) => { wake = done; });
    }
    const last = /^(\d{3}) .*\r\n/m.exec(text);
    text = text.slice(last.index + last[0].length);
    check(last[1] === code, `SMTP: ${last[0]}`);
  };
  await reply("220");
  for (const [line, code] of [["EHLO tests.example", "250"], ["MAIL FROM:<tests@example.test>", "250"],
    [`RCPT TO:<${user}@${domain}>`, "250"], ["DATA", "354"]]) {
    socket.write(`${line}\r\n`);
    await reply(code);
  }
  socket.write(Buffer.concat([Buffer.from(bytes.toString("latin1").replace(/^\./gm, ".."), "latin1"), Buffer.from(".\r\n")]));
  await reply("250");
  socket.end("QUIT\r\n");
}

export async function openGateway() {
  if (!process.env.PENN_URL) return startOwn();
  const domain = process.env.PENN_DOMAIN ?? "penncloud.test";
  return {
    url: process.env.PENN_URL.replace(/\/$/, ""),
    deliver: (user, bytes) => smtp(process.env.PENN_SMTP, domain, user, bytes),
    stop: async () => {},
  };
}

// ---- mail ----

const word = (text) => `=?utf-8?B?${Buffer.from(text).toString("base64")}?=`;

// A message of a plain and an HTML part and a file, with any text anywhere.
export function mail({ from = "Tester", subject = "Test", text = "Hello.", html = null, file = null }) {
  const part = (type, body, more = "") => `--b\r\nContent-Type: ${type}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n${more}\r\n`
    + `${Buffer.from(body).toString("base64").replace(/.{76}/g, "$&\r\n")}\r\n`;
  const parts = [part("text/plain", text)];
  if (html !== null) parts.push(part("text/html", html));
  const shown = html === null ? parts[0] : `--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n${parts.join("").replace(/^--b/gm, "--c")}--c--\r\n`;
  const attached = file === null ? "" : part(file.type ?? "text/html", file.body ?? "<script>top.ran=1</script>",
    `Content-Disposition: attachment;\r\n filename*=utf-8''${encodeURIComponent(file.name).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`)}\r\n`);
  return Buffer.from(`From: ${word(from)} <tests@example.test>\r\nTo: you@penncloud.test\r\nSubject: ${word(subject)}\r\n`
    + `Date: ${new Date().toUTCString().replace("GMT", "+0000")}\r\nMessage-ID: <${Math.random().toString(36).slice(2)}@example.test>\r\n`
    + `MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n${shown}${attached}--b--\r\n`);
}

// ---- the browser ----

// The host that no mail may reach is this server: it counts connections, so
// that also those are seen that carry no request.
export async function openTrap() {
  const trap = { hits: 0, last: "" };
  const sockets = new Set();
  const OURS = "not a hit";
  const server = net.createServer((socket) => {
    trap.hits++;
    sockets.add(socket);
    socket.once("data", (data) => {
      const line = String(data).split("\r\n")[0];
      if (line === OURS) trap.hits--;
      else trap.last = line;
      socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  trap.port = server.address().port;
  // Who came before us is counted when we have been heard.
  trap.counted = () => new Promise((done) => {
    net.connect(trap.port, "127.0.0.1").on("close", done).on("error", () => {}).write(`${OURS}\r\n`);
  });
  trap.close = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return trap;
}

export async function openBrowser(trap) {
  const { chromium } = require("playwright-core");
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
      "--disable-features=AutofillServerCommunication",
      `--host-resolver-rules=MAP evil.test 127.0.0.1:${trap.port}, EXCLUDE 127.0.0.1, EXCLUDE localhost, MAP * ~NOTFOUND`],
  });
}
