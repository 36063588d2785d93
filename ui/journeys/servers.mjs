// Servers: see them, make and revoke a token, drain one, compare the copies. Needs an administrator; with HALT_PIDS (processes of the others) also a cut.
import { env, eventually, launch, login, must, open, steps } from "./lib.mjs";

const browser = await launch();
const { page, faults } = await open(browser);
// Servers to halt and wake again, so that this one loses the majority.
const halt = (process.env.HALT_PIDS ?? "").split(",").filter(Boolean).map(Number);
const signal = (name) => halt.forEach((pid) => process.kill(pid, name));
const region = `journey-${Date.now()}`;

await steps(
  [
    ["log in", () => login(page)],
    [
      "see the servers",
      async () => {
        await page.goto(`${env.base}/servers`);
        await page.locator(".node-card").first().waitFor();
        must((await page.locator(".node-card .pill-up").count()) > 0, "no server is alive");
      },
    ],
    [
      "make a token and read the whole command",
      async () => {
        await page.locator(".page-actions").getByRole("button").click();
        const dialog = page.getByRole("dialog");
        await dialog.getByLabel("Name of the new machine").fill("n9");
        await dialog.locator("[data-field=bind]").fill("10.9.9.9");
        await dialog.locator("[data-field=region]").fill(region);
        await dialog.getByRole("button", { name: "Make the command" }).click();
        const command = await page.getByTestId("join").innerText();
        must(
          /^panoptes server --node n9 --region journey-\d+ --data-dir \S+ --bind 10\.9\.9\.9 --join \S+:\d+ --token pnp1\.\S+$/.test(
            command,
          ),
          command,
        );
        await page.keyboard.press("Escape");
        await dialog.waitFor({ state: "detached" });
      },
    ],
    [
      "revoke it",
      async () => {
        const row = page.locator(".lines li", { hasText: region });
        await row.getByRole("button").click();
        await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
        await row.waitFor({ state: "detached" });
      },
    ],
    [
      "drain a server and give it work again",
      async () => {
        await page.locator(".node-card a").last().click();
        await page.waitForSelector("[data-testid=node-state]");
        await page.getByRole("button", { name: "Drain" }).click();
        await page.getByRole("dialog").getByRole("button", { name: "Drain" }).click();
        await page.getByRole("button", { name: "End draining" }).click();
        await page.getByRole("button", { name: "Drain" }).waitFor();
      },
    ],
    ...(halt.length
      ? [
          [
            "learn on another page within 10 s that the majority is gone",
            async () => {
              await page.goto(`${env.base}/events`);
              await page.waitForSelector("#main h1");
              const t0 = Date.now();
              signal("SIGSTOP");
              try {
                await page.getByTestId("split").getByText("cannot be changed on this side").waitFor();
                console.log(`     told after ${Date.now() - t0} ms`);
                must(Date.now() - t0 < 10_000, `told after ${Date.now() - t0} ms`);
                await page.getByTestId("split").getByRole("link").click();
                await page.locator("td.seen-down").first().waitFor();
                if (process.env.SHOTS)
                  await page.screenshot({ path: `${process.env.SHOTS}/cut.png`, fullPage: true });
              } finally {
                signal("SIGCONT");
              }
              await page.getByTestId("split").waitFor({ state: "detached", timeout: 60_000 });
            },
          ],
        ]
      : []),
    [
      "compare the copies",
      async () => {
        await page.goto(`${env.base}/servers`);
        await page.locator(".node-card").first().waitFor();
        if ((await page.locator(".node-card").count()) < 2) return;
        await page.getByRole("button", { name: "Compare now" }).click();
        await eventually("compared", async () => (await page.getByTestId("compared").count()) > 0, 60_000);
      },
    ],
    ["no errors in the console", async () => must(faults.length === 0, faults.join("\n"))],
  ],
  (path) => page.screenshot({ path, fullPage: true }),
);
await browser.close();
