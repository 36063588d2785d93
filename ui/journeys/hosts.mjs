// Hosts: nobody is there yet, one line brings the first, a group says what its agents do.
import { axe, env, launch, login, must, open, steps } from "./lib.mjs";

const browser = await launch();
const { page, faults } = await open(browser);
const clean = async (what) => {
  const found = await axe(page);
  must(found.length === 0, `${what}: ${found.join("\n")}`);
  must(faults.length === 0, `${what}: ${faults.join("\n")}`);
};

await steps(
  [
    ["log in", () => login(page)],
    [
      "the list says how to begin, and the dialog shows the command",
      async () => {
        await page.goto(`${env.base}/hosts`);
        await page.locator(".page-actions button").click();
        await page.waitForSelector("[data-field=region]");
        await page.locator("dialog button[type=submit]").click();
        const command = await page.locator("[data-testid=join]").textContent();
        must(/pnp1\./.test(command), `the command has no token: ${command}`);
        await clean("the dialog of a new host");
        await page.keyboard.press("Escape");
      },
    ],
    [
      "a group is made, changed and removed",
      async () => {
        await page.goto(`${env.base}/hosts/groups`);
        await page.locator(".empty button, .toolbar button").first().click();
        await page.fill("[data-field=name]", "journey");
        await page.fill("[data-field=hosts]", "db-*");
        await page.fill("[data-field=services]", "unit nginx");
        await page.locator("dialog button[type=submit]").click();
        // The server names the field and the remedy.
        await page.waitForSelector("dialog .mantine-InputWrapper-error");
        faults.splice(0, faults.length, ...faults.filter((f) => !f.includes("400")));
        await page.fill("[data-field=services]", "unit nginx.service");
        await page.locator("dialog button[type=submit]").click();
        await page.waitForSelector(".records li:has-text('journey')");
        await clean("the groups");
        await page.locator(".records li:has-text('journey') .danger").click();
        await page.locator("dialog .actions button").last().click();
        await page.waitForSelector(".records li:has-text('journey')", { state: "detached" });
      },
    ],
    [
      "the palette knows the page",
      async () => {
        await page.keyboard.press("g");
        await page.keyboard.press("h");
        await page.waitForURL(/\/hosts$/);
        must(faults.length === 0, faults.join("\n"));
      },
    ],
  ],
  (path) => page.screenshot({ path }),
);
await browser.close();
