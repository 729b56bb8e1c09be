// The web interface in a real browser: what people do with it, and what
// hostile mail must not do to it. See lib.mjs for how it is pointed at a
// gateway. Exit status 0 if all went well.
import { check, mail, openBrowser, openGateway, openTrap, summary, test, until } from "./lib.mjs";
import { vectors } from "./vectors.mjs";

const gateway = await openGateway();
const trap = await openTrap();
const browser = await openBrowser(trap);
const stamp = Date.now().toString(36);
const ada = { name: `ada-${stamp}`, password: "a long password", shown: "Ada Test" };
const bob = { name: `bob-${stamp}`, password: "another password", shown: "Bob <b>Test</b>" };
const domain = process.env.PENN_DOMAIN ?? "penncloud.test";
const trouble = [];

// A person with a browser of his own.
async function open(size = { width: 1400, height: 900 }) {
  const context = await browser.newContext({ viewport: size, hasTouch: size.width < 500 });
  const page = await context.newPage();
  page.setDefaultTimeout(90000);
  page.on("dialog", (d) => { trouble.push(`dialog ${d.message()}`); d.dismiss(); });
  page.on("pageerror", (e) => trouble.push(`error ${e.message}`));
  page.on("request", (r) => {
    if (!r.url().startsWith(gateway.url) && !/^(data|blob|about):/.test(r.url())) trouble.push(`request ${r.url()}`);
  });
  page.on("console", (m) => {
    if (m.type() === "error" && !/status of (401|403|404|422|429)/.test(m.text()) && !/ERR_INTERNET_DISCONNECTED/.test(m.text()))
      trouble.push(`console ${m.text()}`);
  });
  await page.goto(gateway.url);
  return page;
}

function quiet() {
  const all = trouble.splice(0);
  check(all.length === 0, all.join("\n  "));
}

async function signUp(page, who) {
  await page.click("text=Create an account");
  await page.fill("#display_name", who.shown);
  await page.fill("#username", who.name);
  await page.fill("#password", who.password);
  await page.click("button[type=submit]");
  await page.waitForSelector(".shell");
}

async function logIn(page, who, password = who.password) {
  await page.fill("#username", who.name);
  await page.fill("#password", password);
  await page.click("button[type=submit]");
}

const row = (page, text) => page.locator(".row", { hasText: text });
const count = (page, folder) => page.evaluate((f) => Number(document.querySelector(`.folders a[href="#/${f}"] .count`)?.textContent ?? 0), folder);

async function write(page, to, subject, text) {
  await page.click(".compose-button");
  await page.fill("#compose-to", to);
  await page.fill("#compose-subject", subject);
  await page.fill("#compose-text", text);
}

async function send(page) {
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector(".compose", { state: "detached" });
}

const a = await open();
const b = await open();

await test("sign up", async () => {
  await signUp(a, ada);
  await signUp(b, bob);
  check((await a.textContent(".account")).includes(`${ada.name}@${domain}`), "own address");
  check((await b.textContent(".account strong")) === bob.shown, "a name is text");
  quiet();
});

await test("a wrong password is told", async () => {
  const page = await open();
  await logIn(page, ada, "wrong password");
  await page.waitForSelector(".form-error:not(:empty)");
  check((await page.textContent(".form-error")).includes("Wrong username or password"), "text");
  await page.context().close();
  quiet();
});

await test("new mail appears in an open inbox within a second", async () => {
  await until("live", async () => (await b.getAttribute(".live", "class")).includes("live live"));
  await write(a, `${bob.name}@${domain}`, "Lunch on Thursday?", "Hi Bob,\n\nhow about noon?\nhttps://example.test/menu\n");
  await a.setInputFiles(".compose input[type=file]", [{ name: "menü <1>.txt", mimeType: "text/plain", buffer: Buffer.from("soup") }]);
  const began = Date.now();
  await send(a);
  await row(b, "Lunch on Thursday?").waitFor();
  const took = Date.now() - began;
  check(took < 1500, `took ${took} ms`);
  await until("unread count", async () => await count(b, "inbox") === 1);
  await until("the list's total", async () => (await b.textContent(".list-total")) === "1 message");
  await until("the space used", async () => !(await b.textContent(".usage")).startsWith("0 B"));
  check((await b.title()).startsWith("(1)"), "title");
  quiet();
});

await test("read it", async () => {
  await row(b, "Lunch on Thursday?").locator(".row-link").click();
  await b.waitForSelector(".message-subject");
  check((await b.textContent(".message-subject")) === "Lunch on Thursday?", "subject");
  check((await b.textContent(".message-text")).includes("how about noon?"), "text");
  const link = b.locator(".message-text a");
  check((await link.getAttribute("rel")).includes("noopener"), "rel");
  await until("read", async () => await count(b, "inbox") === 0);
  const [download] = await Promise.all([b.waitForEvent("download"), b.click(".files a")]);
  check(download.suggestedFilename().startsWith("menü"), download.suggestedFilename());
  const stream = await download.createReadStream();
  let bytes = "";
  for await (const chunk of stream) bytes += chunk;
  check(bytes === "soup", "attachment's bytes");
  quiet();
});

await test("reply", async () => {
  await b.keyboard.press("r");
  await b.waitForSelector(".compose");
  check((await b.inputValue("#compose-subject")) === "Re: Lunch on Thursday?", "subject");
  check((await b.inputValue("#compose-to")).includes(`${ada.name}@${domain}`), "to");
  check((await b.inputValue("#compose-text")).includes("> how about noon?"), "quote");
  await b.keyboard.type("Noon it is.");
  await send(b);
  await row(a, "Re: Lunch on Thursday?").waitFor();
  await until("answered mark", () => row(b, "Lunch on Thursday?").locator('[title="Answered"]').count());
  quiet();
});

await test("reply to all, forward with the attachment", async () => {
  await b.keyboard.press("f");
  await b.waitForSelector(".compose");
  await b.locator(".compose-files .file").waitFor();
  check((await b.inputValue("#compose-text")).includes("Forwarded message"), "head");
  await b.fill("#compose-to", `${bob.name}@${domain}, Ada <${ada.name}@${domain}>`);
  await send(b);
  await row(a, "Fwd: Lunch").waitFor();
  await row(b, "Fwd: Lunch").waitFor();
  check(await row(a, "Fwd: Lunch").locator('[title="1 attachment"]').count() === 1, "attachment mark");
  await row(a, "Fwd: Lunch").locator(".row-link").click();
  await a.waitForSelector(".message-subject");
  await a.keyboard.press("a");
  await a.waitForSelector(".compose");
  await a.click(".compose [aria-label=Discard]");
  await a.waitForSelector(".compose", { state: "detached" });
  quiet();
});

await test("refusals are told, nothing is lost", async () => {
  await write(a, "someone@elsewhere.test", "Outside", "x");
  await a.keyboard.press("Control+Enter");
  await a.waitForSelector(".compose .form-error:not(:empty)");
  check((await a.textContent(".compose .form-error")).includes("someone@elsewhere.test"), "which recipient");
  check((await a.inputValue("#compose-text")) === "x", "the text stays");
  await a.click(".compose [aria-label=Discard]");
  await a.waitForSelector(".compose", { state: "detached" });
  quiet();
});

await test("drafts are kept and taken up again", async () => {
  await write(a, `${bob.name}@${domain}`, "Half a thought", "It begins");
  await a.keyboard.press("Escape");
  await a.waitForSelector(".compose", { state: "detached" });
  await a.click('.folders a[href="#/drafts"]');
  await row(a, "Half a thought").locator(".row-link").click();
  await a.waitForSelector(".compose");
  check((await a.inputValue("#compose-text")) === "It begins", "text");
  await a.fill("#compose-text", "It begins and ends.");
  await send(a);
  await row(b, "Half a thought").waitFor();
  await row(a, "Half a thought").waitFor({ state: "detached" });
  await a.click('.folders a[href="#/inbox"]');
  quiet();
});

await test("delete, undo, flag, archive, mark unread", async () => {
  await b.goto(`${gateway.url}/#/inbox`);
  await row(b, "Half a thought").locator(".row-link").click();
  await b.waitForSelector(".message-subject:has-text('Half a thought')");
  await b.keyboard.press("#");
  await b.click(".toast-action"); // it is there for seconds
  await row(b, "Half a thought").waitFor();
  await b.keyboard.press("u");
  await row(b, "Half a thought").hover();
  await row(b, "Half a thought").locator(".row-star").click();
  await row(b, "Half a thought").locator(".avatar").click();
  await b.keyboard.press("Shift+U");
  await until("unread", async () => await row(b, "Half a thought").getAttribute("class").then((c) => c.includes("unread")));
  await b.keyboard.press("e");
  await row(b, "Half a thought").waitFor({ state: "detached" });
  await until("the list's total", async () =>
    (await b.textContent(".list-total")).startsWith(`${await b.locator(".row").count()} message`));
  await b.click('.folders a[href="#/archive"]');
  await row(b, "Half a thought").waitFor();
  await b.reload();
  await row(b, "Half a thought").waitFor();
  check((await row(b, "Half a thought").locator(".row-star").getAttribute("aria-pressed")) === "true", "the flag stays");
  check(await row(b, "Half a thought").getAttribute("class").then((c) => c.includes("unread")), "unread stays");
  await row(b, "Half a thought").locator(".row-link").click();
  await b.waitForSelector(".message-subject:has-text('Half a thought')");
  await b.keyboard.press("#");
  await row(b, "Half a thought").waitFor({ state: "detached" });
  await b.click('.folders a[href="#/trash"]');
  await row(b, "Half a thought").locator(".row-link").click();
  await b.waitForSelector(".message-subject:has-text('Half a thought')");
  await b.keyboard.press("#");
  await b.waitForSelector(".empty h3:has-text('The trash is empty')");
  await b.click('.folders a[href="#/inbox"]');
  quiet();
});

await test("a long list goes on as one scrolls", async () => {
  for (let i = 1; i <= 120; i++) await gateway.deliver(ada.name, mail({ subject: `Number ${i}.` }));
  await a.reload();
  await row(a, "Number 120.").waitFor();
  await until("the last row", async () => {
    await a.evaluate(() => { const s = document.querySelector(".list-scroll"); s.scrollTop = s.scrollHeight; });
    return await a.locator(".row").count() >= 122;
  });
  check(await row(a, "Number 1.").count() === 1, "the first");
  const uids = await a.locator(".row").evaluateAll((rows) => rows.map((r) => r.dataset.uid));
  check(new Set(uids).size === uids.length, "each once");
  quiet();
});

await test("the keyboard suffices", async () => {
  await a.goto(`${gateway.url}/#/inbox`);
  await a.reload();
  await row(a, "Number 120.").waitFor();
  await a.keyboard.press("j");
  await a.keyboard.press("Enter");
  await a.waitForSelector(".message-subject:has-text('Number 120.')");
  await a.keyboard.press("j");
  await a.waitForSelector(".message-subject:has-text('Number 119.')");
  await a.keyboard.press("k");
  await a.waitForSelector(".message-subject:has-text('Number 120.')");
  await a.keyboard.press("?");
  await a.waitForSelector("dialog[open]");
  await a.keyboard.press("Escape");
  await a.waitForSelector("dialog[open]", { state: "detached" });
  quiet();
});

await test("every control has a name, every field a label", async () => {
  for (const page of [a, b]) {
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, a, input, textarea, iframe")]
      .filter((e) => !e.hidden && e.type !== "file" && !(e.getAttribute("aria-label") || e.textContent.trim() || e.title || e.labels?.length))
      .map((e) => e.outerHTML));
    check(nameless.length === 0, nameless.join("\n"));
  }
});

await test("without a connection it says so, and goes on by itself", async () => {
  await b.context().setOffline(true);
  await b.waitForSelector(".live.offline");
  await b.context().setOffline(false);
  await until("live again", async () => (await b.getAttribute(".live", "class")).includes("live live"));
  await gateway.deliver(bob.name, mail({ subject: "After the gap" }));
  await row(b, "After the gap").waitFor();
  trouble.splice(0);
});

await test("on a telephone", async () => {
  const page = await open({ width: 390, height: 844 });
  await logIn(page, bob);
  await page.waitForSelector(".row");
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  check(!await wide(), "the list fits");
  await row(page, "After the gap").locator(".row-link").click();
  await page.waitForSelector(".message-subject");
  check(!await wide(), "the message fits");
  await page.click(".message-from summary");
  const box = await page.locator(".message-from dl").boundingBox();
  check(box.x < 30 && box.width > 330, `the details take the whole width: ${JSON.stringify(box)}`);
  await page.click(".bar button:has-text('')");
  await page.waitForSelector(".shell:not(.reading)");
  await page.click("[aria-label='Show folders']");
  await page.click('.folders a[href="#/sent"]');
  await page.waitForSelector(".row");
  await page.click(".float");
  await page.waitForSelector(".compose");
  check(!await wide(), "writing fits");
  await page.click("[aria-label^='Close and keep']");
  await page.context().close();
  quiet();
});

await test("a new password ends the other sessions", async () => {
  const page = await open();
  await logIn(page, bob);
  await page.waitForSelector(".row");
  await page.click("[aria-label='Change password']");
  await page.fill("#old_password", bob.password);
  await page.fill("#new_password", "yet another one");
  await page.click("dialog button[type=submit]");
  await page.waitForSelector(".toast:has-text('Password changed')");
  await b.click(".list-head [aria-label='Look for new mail']");
  await b.waitForSelector("form.card");
  await page.click("[aria-label='Log out']");
  await page.waitForSelector("form.card");
  await page.context().close();
  quiet();
});

// ---- hostile mail ----

// A megabyte in the shortest of lines and quotes, and one of links: either
// could make hundreds of thousands of nodes.
await test("a mail of endless lines opens", async () => {
  const page = await open();
  await logIn(page, ada);
  for (const [subject, text] of [["endless lines", ">\nx\n".repeat(200000)], ["endless links", "http://a.test ".repeat(60000)]]) {
    await gateway.deliver(ada.name, mail({ subject, text }));
    const began = Date.now();
    await row(page, subject).locator(".row-link").click();
    await until("the text", async () => (await page.textContent(".message-subject").catch(() => "")) === subject);
    const nodes = await page.locator(".message-text *").count();
    check(nodes > 500 && nodes < 5000, `${nodes} nodes`);
    console.log(`     ${subject}: ${Date.now() - began} ms`);
  }
  await page.context().close();
  quiet();
});

await test("the trap works", async () => {
  // In a browser of its own, which tries nothing more once it has ended.
  const other = await openBrowser(trap);
  const page = await other.newPage();
  await page.setContent('<img src="http://evil.test/control.png">');
  await until("a hit", () => trap.last.includes("control.png"));
  await other.close();
  await trap.counted();
  check(trap.hits > 0, "no hit was counted");
  trap.hits = 0;
});

await test(`${vectors.length} hostile mails: nothing runs, no request leaves`, async () => {
  const page = await open();
  const popups = [];
  page.context().on("page", (p) => popups.push(p.url()));
  await logIn(page, ada);
  await page.waitForSelector(".row");
  await page.evaluate(() => localStorage.setItem("penncloud.formatted", "true"));
  for (const v of vectors)
    await gateway.deliver(ada.name, mail({ from: v.slice(0, 200), subject: v.slice(0, 250), text: v, html: v, file: { name: `${v.slice(0, 60)}.html`, body: v } }));
  await page.reload();
  await page.waitForSelector(".row");
  const seen = async (what) => {
    for (const frame of page.frames())
      check(!await frame.evaluate(() => self.ran === 1).catch(() => false), `ran: ${what}`);
    check(page.url().startsWith(gateway.url), `led away to ${page.url()}: ${what}`);
    check(popups.length === 0, `opened ${popups}: ${what}`);
    check(trap.hits === 0, `asked for ${trap.last}: ${what}`);
    const all = trouble.splice(0);
    check(all.length === 0, `${all.join("; ")}: ${what}`);
    check(await page.locator("#app > .shell").count() === 1, `broke the page: ${what}`);
  };
  const answer = await page.evaluate(async () => {
    const all = [];
    for (let next = ""; next !== null;) {
      const r = await (await fetch(`/api/mail/folders/inbox/messages?limit=200${next && `&before=${next}`}`)).json();
      all.push(...r.messages.map((m) => m.uid));
      next = r.next;
    }
    return all;
  });
  for (let i = 0; i < vectors.length; i++) {
    const uid = answer[vectors.length - 1 - i];
    await page.evaluate((hash) => { location.hash = hash; }, `#/inbox/${uid}`);
    await until(`message ${i}`, () => page.evaluate((u) => document.querySelector(".bar a[download]")?.download.startsWith(u), uid));
    const frame = page.locator("iframe.message-frame");
    await until(`frame ${i}`, async () => await frame.count() === 1 || await page.locator(".message-none, .message-text").count() === 1);
    if (await frame.count() === 1) {
      const inner = await until("its document", () => page.frames().find((f) => f.url().includes(uid)));
      await inner.waitForLoadState();
      check((await frame.getAttribute("sandbox")) === "allow-popups allow-popups-to-escape-sandbox", "sandbox");
    }
    await seen(vectors[i]);
    const plain = page.locator(".switch button", { hasText: "Plain text" });
    // As text all are shown by the same few lines of code: some will do.
    if (i % 8 === 0 && await plain.count() === 1) {
      await plain.click();
      await seen(`as text: ${vectors[i]}`);
      await page.locator(".switch button", { hasText: "Formatted" }).click();
    }
  }
  await seen("at the end");
  await page.context().close();
  await trap.counted();
  check(trap.hits === 0, `asked for ${trap.last} in the end`);
});

await test("attachments and raw mail never run in our origin", async () => {
  const page = await open();
  await logIn(page, ada);
  await page.waitForSelector(".row");
  const uid = await page.locator(".row").first().getAttribute("data-uid");
  for (const kind of ["raw", "parts/2", "html"]) {
    const answer = await page.context().request.get(`${gateway.url}/api/mail/messages/${uid}/${kind}`);
    const headers = answer.headers();
    check(answer.status() === 200, `${kind}: ${answer.status()}`);
    check(/(^|; ?)sandbox/.test(headers["content-security-policy"]), `${kind}: CSP`);
    check(!headers["content-security-policy"].includes("allow-scripts"), `${kind}: scripts`);
    check(headers["x-content-type-options"] === "nosniff", `${kind}: nosniff`);
    if (kind !== "html") check(headers["content-disposition"].startsWith("attachment"), `${kind}: attachment`);
  }
  await page.context().close();
});

await browser.close();
trap.close();
await gateway.stop();
process.exit(summary());
