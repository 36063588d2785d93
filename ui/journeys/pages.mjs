// Every page in both themes, both languages, on a desk and on a phone: accessible, no errors, nothing wider than the screen.
import { axe, env, eventually, launch, login, must, open, steps } from "./lib.mjs";

const PAGES = [
  "/",
  "/checks",
  "/checks/new",
  "/checks/new?type=http",
  "/hosts",
  "/hosts/groups",
  "/alerts",
  "/silences",
  "/silences?new=1",
  "/events",
  "/explore?g0.expr=panoptes_check_status&g0.tab=table",
  "/explore?g0.expr=panoptes_check_status&g0.tab=graph",
  "/servers",
  "/settings/receivers",
  "/settings/routes",
  "/settings/maintenance",
  "/settings/regions",
  "/settings/self",
  "/settings/users",
  "/settings/keys",
  "/settings/profile",
  "/settings/about",
  "/no/such/page",
];
const browser = await launch();

async function look(page, path, faults) {
  await page.goto(env.base + path);
  await page.waitForSelector("#main h1");
  await eventually("loaded", async () => (await page.locator(".skeleton").count()) === 0);
  await page.waitForTimeout(150);
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

const list = [];
for (const width of [1440, 390]) {
  for (const theme of ["light", "dark"]) {
    for (const language of ["en", "zh-CN"]) {
      list.push([
        `${PAGES.length} pages, ${theme}, ${language}, ${width} px`,
        async () => {
          const { context, page, faults } = await open(browser, {
            width,
            height: width < 500 ? 844 : 900,
            theme,
            language,
          });
          await login(page);
          let paths = PAGES;
          const first = page.locator("a[href*='/checks/']");
          await page.goto(`${env.base}/checks`);
          await page.waitForSelector("#main h1");
          await page.waitForTimeout(500);
          const href = await first.evaluateAll((as) =>
            as.map((a) => a.getAttribute("href")).find((h) => !h.endsWith("/new")),
          );
          if (href)
            paths = [
              ...PAGES,
              href.slice(new URL(env.base).pathname.replace(/\/$/, "").length),
              `${href}/edit`,
            ];
          await page.goto(`${env.base}/servers`);
          const server = await page.locator(".node-card a").first().getAttribute("href");
          paths = [...paths, server.slice(new URL(env.base).pathname.replace(/\/$/, "").length)];
          for (const p of paths) await look(page, p, faults);
          await page.goto(`${env.base}/servers`);
          await page.locator(".page-actions button").click();
          await page.waitForSelector("[data-field=region]");
          const found = await axe(page);
          must(found.length === 0, `dialog of a new server: ${found.join("\n")}`);
          await context.close();
        },
      ]);
    }
  }
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
