// An open inbox while gateways and storage processes are killed: the page
// goes on, the session lives, new mail appears. Needs a cluster: PENN_DIR is
// its directory, PENNCTL the program, besides what lib.mjs wants.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { check, mail, openBrowser, openGateway, openTrap, summary, test, until } from "./lib.mjs";

const dir = process.env.PENN_DIR;
const gateway = await openGateway();
const trap = await openTrap();
const browser = await openBrowser(trap);
const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
page.setDefaultTimeout(90000);

function kill(name) {
  process.kill(Number(readFileSync(`${dir}/run/${name}.pid`, "utf8")), "SIGKILL");
}

function start(name) {
  execFileSync(process.env.PENNCTL, ["--local", dir, "local", "start", name]);
}

// SMTP clients try again; so do we.
async function deliver(subject) {
  await until(`delivery of ${subject}`, () => gateway.deliver("demo", mail({ subject })).then(() => true, () => false), 190000);
}

const row = (text) => page.locator(".row", { hasText: text });

await test("log in", async () => {
  await page.goto(gateway.url);
  await page.fill("#username", "demo");
  await page.fill("#password", readFileSync(`${dir}/demo-password`, "utf8").trim());
  await page.click("button[type=submit]");
  await page.waitForSelector(".shell");
  await until("live", async () => (await page.getAttribute(".live", "class")).includes("live live"));
});

for (const name of ["gateway-1", "gateway-2", "storage-1", "storage-2"]) {
  await test(`${name} is killed`, async () => {
    kill(name);
    try {
      const began = Date.now();
      await deliver(`While ${name} is dead`);
      await row(`While ${name} is dead`).waitFor({ timeout: 90000 });
      console.log(`  mail seen ${Date.now() - began} ms after the kill`);
      await row(`While ${name} is dead`).locator(".row-link").click();
      await page.waitForSelector(`.message-subject:has-text("While ${name} is dead")`);
      await page.click(".compose-button");
      await page.fill("#compose-to", "alice@penncloud.test");
      await page.fill("#compose-subject", `Sent while ${name} is dead`);
      await page.keyboard.press("Control+Enter");
      await page.waitForSelector(".compose", { state: "detached", timeout: 90000 });
    } finally {
      start(name);
    }
    await until("live again", async () => (await page.getAttribute(".live", "class")).includes("live live"), 190000);
  });
}

await test("everything is there once", async () => {
  await page.reload();
  await page.waitForSelector(".row");
  for (const name of ["gateway-1", "gateway-2", "storage-1", "storage-2"])
    check(await row(`While ${name} is dead`).count() >= 1, `mail of ${name}`);
  await page.click('.folders a[href="#/sent"]');
  await row("Sent while storage-2").waitFor();
  check(await page.locator(".row").count() === 4, "four sent");
});

await browser.close();
trap.close();
process.exit(summary());
