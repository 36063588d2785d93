// What the journeys share: a browser, a logged-in page, and checks that hold on every page.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const env = {
  base: (process.env.PANOPTES_URL ?? "http://127.0.0.1:9700").replace(/\/$/, ""),
  user: process.env.PANOPTES_USER ?? "admin",
  password: process.env.PANOPTES_PASSWORD ?? "",
  // A server under our control: GET / answers 200 or 500; GET /up and /down switch it.
  target: (process.env.TARGET_CONTROL ?? "").replace(/\/$/, ""),
};

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** open starts a browser context whose console must stay clean. */
export async function open(
  browser,
  { width = 1440, height = 900, theme = "light", language = "en", faults = [] } = {},
) {
  const context = await browser.newContext({ viewport: { width, height }, reducedMotion: "reduce" });
  await context.addInitScript(
    ([t, l]) => {
      if (!localStorage.getItem("panoptes.theme")) localStorage.setItem("panoptes.theme", t);
      if (!localStorage.getItem("panoptes.language")) localStorage.setItem("panoptes.language", l);
    },
    [theme, language],
  );
  const page = await context.newPage();
  page.setDefaultTimeout(45_000);
  page.on("console", (m) => {
    if (m.type() === "error" || (m.type() === "warning" && !m.text().includes("preload")))
      faults.push(`console: ${m.text()}`);
  });
  page.on("pageerror", (e) => faults.push(`page: ${e}`));
  return { context, page, faults };
}

/** login uses the form, as people do. */
export async function login(page) {
  await page.goto(`${env.base}/login`);
  await page.fill("input[name=name]", env.user);
  await page.fill("input[name=password]", env.password);
  await page.click("button[type=submit]");
  await page.waitForSelector("#main h1");
}

/** axe reports what the accessibility rules find on the page as it stands. */
export async function axe(page) {
  // Evaluated by the debugger, which the page's content security policy does not concern; once for each document.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axeSource);
  return page.evaluate(
    `axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.map((v) => v.id + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")))`,
  );
}

/** eventually repeats f until it answers truthfully, or fails after the time given. */
export async function eventually(what, f, ms = 60_000) {
  const end = Date.now() + ms;
  let last;
  while (Date.now() < end) {
    last = await f().catch((e) => {
      last = e;
      return false;
    });
    if (last) return last;
    await new Promise((r) => setTimeout(r, 200));
  }
  throw new Error(`${what}: not within ${ms / 1000} s`);
}

export function must(ok, what) {
  if (!ok) throw new Error(what);
}

/** steps runs named steps in order, says how long each took, and exits non-zero when one fails. */
export async function steps(list, shot) {
  for (const [name, f] of list) {
    const t0 = Date.now();
    try {
      await f();
      console.log(`ok   ${name} (${Date.now() - t0} ms)`);
    } catch (e) {
      console.error(`FAIL ${name}: ${e instanceof Error ? e.message : e}`);
      if (process.env.SHOTS) await shot?.(`${process.env.SHOTS}/fail.png`).catch(() => undefined);
      process.exitCode = 1;
      return;
    }
  }
}
