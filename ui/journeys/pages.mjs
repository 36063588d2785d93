// Every page in both themes, both languages, on a desk and on a phone: accessible, no errors, nothing wider than the screen.
import { axe, env, eventually, launch, login, must, open, steps } from "./lib.mjs";

const PAGES = [
  "/",
  "/checks",
  "/checks/new",
  "/checks/new?type=http",
  "/hosts",
  "/hosts/groups",
  "/hosts/journey-host",
  "/alerts",
  "/silences",
  "/silences?new=1",
  "/events",
  "/explore?g0.expr=panoptes_check_status&g0.tab=table",
  "/explore?g0.expr=panoptes_check_status&g0.tab=graph",
  "/explore?g0.expr=sum(panoptes_check_status)&g0.tab=explain",
  "/explore/slow",
  "/rules",
  "/rules/sets",
  "/rules/new",
  "/scrapes",
  "/scrapes/jobs",
  "/scrapes/new",
  "/servers",
  "/settings/receivers",
  "/settings/routes",
  "/settings/maintenance",
  "/settings/regions",
  "/settings/self",
  "/settings/users",
  "/settings/keys",
  "/settings/backup",
  "/settings/profile",
  "/settings/about",
  "/no/such/page",
];
/** A host that fell silent, as the server tells of it. */
const HOST = {
  id: "journey-host",
  name: "db-1.a-very-long-name-of-a-host.example.internal",
  region: "eu",
  labels: { team: "data" },
  status: "down",
  since: new Date(Date.now() - 600_000).toISOString(),
  last_seen: new Date(Date.now() - 660_000).toISOString(),
  message: "its agent is silent and it does not answer: tried 4 ways from 2 workers",
  evidence: [
    {
      region: "eu",
      prober: "n1",
      target: "icmp 10.0.0.9",
      answers: false,
      message: "no echo of 3",
      at: new Date().toISOString(),
    },
  ],
  version: "1.0.0",
  os: "linux",
  arch: "amd64",
  addresses: ["10.0.0.9"],
};
const browser = await launch();

async function look(page, path, faults, opened) {
  if (opened) await page.goto(env.base + path);
  else {
    await page.evaluate(
      (to) => {
        window.history.pushState(null, "", to);
        window.dispatchEvent(new window.PopStateEvent("popstate"));
      },
      new URL(env.base).pathname.replace(/\/$/, "") + path,
    );
    await page.waitForTimeout(50);
  }
  await page.waitForSelector("#main h1");
  await eventually("loaded", async () => (await page.locator(".skeleton").count()) === 0);
  await page.waitForTimeout(100);
  if (process.env.SHOTS) {
    const { width } = page.viewportSize();
    const mode = await page.evaluate(
      () =>
        `${document.documentElement.getAttribute("data-mantine-color-scheme")}-${document.documentElement.lang}`,
    );
    await page.screenshot({ path: `${process.env.SHOTS}/${path.replace(/\W+/g, "_")}-${mode}-${width}.png` });
  }
  const found = await axe(page);
  must(found.length === 0, `${path}: ${found.join("\n")}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  must(wide <= 0, `${path} is ${wide} px wider than the screen`);
  must(faults.length === 0, `${path}: ${faults.join("\n")}`);
}

// Every pair of width, theme and language once: what one of them breaks, it breaks with either of the third.
const LOOKS = [
  [1440, "light", "en"],
  [1440, "dark", "zh-CN"],
  [390, "dark", "en"],
  [390, "light", "zh-CN"],
];
const list = [];
// LOOK=390 looks only at what has that in its name.
for (const [width, theme, language] of LOOKS.filter((l) => l.join(" ").includes(process.env.LOOK ?? ""))) {
  list.push([
    `all pages, ${theme}, ${language}, ${width} px`,
    async () => {
      const { context, page, faults } = await open(browser, {
        width,
        height: width < 500 ? 844 : 900,
        theme,
        language,
      });
      await page.route("**/v1/hosts/journey-host", (r) => r.fulfill({ json: HOST }));
      await login(page);
      await page.goto(`${env.base}/checks`);
      await page.waitForSelector("#main h1");
      await page.waitForTimeout(500);
      const check = await page
        .locator("a[href*='/checks/']")
        .evaluateAll((as) => as.map((a) => a.getAttribute("href")).find((h) => !h.endsWith("/new")));
      await page.goto(`${env.base}/servers`);
      const server = await page.locator(".node-card a").first().getAttribute("href");
      const below = (href) => href.slice(new URL(env.base).pathname.replace(/\/$/, "").length);
      const paths = [...PAGES, below(server), ...(check ? [below(check), `${below(check)}/edit`] : [])];
      // Opened once from their address, then as people go from one to another.
      const opened = language === "en" && width === 1440;
      for (const p of paths) await look(page, p, faults, opened);
      await page.goto(`${env.base}/servers`);
      await page.locator(".page-actions button").click();
      await page.waitForSelector("[data-field=region]");
      const found = await axe(page);
      must(found.length === 0, `dialog of a new server: ${found.join("\n")}`);
      await context.close();
    },
  ]);
}
list.push([
  "switch language and theme, open the palette, use the keys",
  async () => {
    const { context, page, faults } = await open(browser);
    await login(page);
    const side = page.locator(".side");
    await side.getByTestId("language").click();
    await side.getByRole("link", { name: "告警" }).waitFor();
    must(
      (await page.evaluate(() => document.documentElement.lang)) === "zh-CN",
      "the page's language did not follow",
    );
    await side.getByTestId("language").click();
    await side.getByRole("link", { name: "Alerts" }).waitFor();
    await side.getByTestId("theme").click();
    must(
      (await page.evaluate(() => document.documentElement.getAttribute("data-mantine-color-scheme"))) ===
        "dark",
      "the theme did not change",
    );
    await page.reload();
    must(
      (await page.evaluate(() => document.documentElement.getAttribute("data-mantine-color-scheme"))) ===
        "dark",
      "the theme was forgotten",
    );
    await page.waitForSelector("#main h1");
    await page.keyboard.press("g");
    await page.keyboard.press("e");
    await page.waitForURL((u) => u.pathname.endsWith("/events"));
    await page.keyboard.press("Control+k");
    await page.locator(".palette-input").fill("silen");
    await page.keyboard.press("Enter");
    await page.waitForURL((u) => u.pathname.endsWith("/silences"));
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await eventually("live", async () => (await side.locator(".live-live").count()) === 1);
    must(faults.length === 0, faults.join("\n"));
    await context.close();
  },
]);
await steps(list);
await browser.close();
