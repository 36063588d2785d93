// A check from nothing to silence: log in, add and test it, watch it go down and up, silence it, delete it.
import { env, eventually, launch, login, must, open, steps } from "./lib.mjs";

must(env.target, "TARGET_CONTROL must name a server that /up and /down switch");
const browser = await launch();
const { page, faults } = await open(browser);
const name = `journey ${Date.now()}`;
const control = (to) => fetch(`${env.target}/${to}`);
const state = () => page.getByTestId("state").locator("b").innerText();

await control("up");
await steps(
  [
    ["log in", () => login(page)],
    [
      "choose a kind",
      async () => {
        await page.goto(`${env.base}/checks/new`);
        await page.click("[data-kind=http]");
        await page.waitForSelector("[data-field=target]");
      },
    ],
    [
      "see the server's faults at their fields",
      async () => {
        await page.fill("[data-field=interval]", "5s");
        await page.fill("[data-field=target]", "no url");
        await page.getByRole("button", { name: "Save" }).click();
        await page.waitForSelector("[data-field=name][aria-invalid=true]");
        // The refusal is part of the journey; the browser writes it into the console.
        faults.splice(0, faults.length, ...faults.filter((f) => !f.includes("400")));
      },
    ],
    [
      "test before saving",
      async () => {
        await page.fill("[data-field=name]", name);
        await page.fill("[data-field=target]", `${env.target}/`);
        await page.fill("[data-field=timeout]", "2s");
        await page.fill("[data-field=labels]", "journey: yes");
        await page.getByRole("button", { name: "Test now" }).click();
        await page.waitForSelector(".result .pill-up");
      },
    ],
    [
      "save and see it up",
      async () => {
        await page.getByRole("button", { name: "Save" }).click();
        await page.waitForSelector("[data-testid=state]");
        await eventually("up", async () => (await state()) === "up");
      },
    ],
    [
      "see it go down without reloading",
      async () => {
        await control("down");
        await eventually("down", async () => (await state()) === "down");
      },
    ],
    [
      "run it now and read the evidence",
      async () => {
        await page.getByRole("button", { name: "Run now" }).click();
        await page.waitForSelector(".result .pill-down");
      },
    ],
    [
      "find it among the checks",
      async () => {
        await page.goto(`${env.base}/checks?status=down&q=${encodeURIComponent(name)}`);
        await page.getByRole("link", { name, exact: true }).waitFor();
      },
    ],
    [
      "silence its alert",
      async () => {
        await page.goto(`${env.base}/alerts?m=${encodeURIComponent(`check="${name}"`)}`);
        await page.locator(".alert-group").getByRole("button", { name: "Silence" }).first().click();
        await page.waitForSelector(".preview li");
        await page.getByLabel("Comment").fill("journey");
        await page.locator("dialog").getByRole("button", { name: "4 hours" }).click();
        await page.locator("dialog").getByRole("button", { name: "Silence", exact: true }).click();
        await page.waitForSelector("dialog", { state: "detached" });
        await eventually("silenced", async () => (await page.locator(".alerts .quiet").count()) > 0);
      },
    ],
    [
      "end the silence",
      async () => {
        await page.goto(`${env.base}/silences`);
        const row = page.locator(".silences li", { hasText: name });
        await row.getByRole("button", { name: "End now" }).click();
        await page.locator("dialog").getByRole("button", { name: "End now" }).click();
        await row.waitFor({ state: "detached" });
      },
    ],
    [
      "see it recover, and the events",
      async () => {
        await page.goto(`${env.base}/checks?q=${encodeURIComponent(name)}`);
        await page.getByRole("link", { name, exact: true }).click();
        await page.waitForSelector("[data-testid=state]");
        await control("up");
        await eventually("up again", async () => (await state()) === "up");
        await eventually("events", async () => (await page.locator(".events li").count()) >= 2);
      },
    ],
    [
      "leave a changed form only when asked",
      async () => {
        await page.getByRole("button", { name: "Edit", exact: true }).click();
        await page.fill("[data-field=interval]", "6s");
        await page.locator(".side").getByRole("link", { name: "Overview" }).click();
        await page.locator("dialog").getByRole("button", { name: "Cancel" }).click();
        must(page.url().endsWith("/edit"), "the form was left");
        await page.keyboard.press("Control+s");
        await page.waitForSelector("[data-testid=state]");
      },
    ],
    [
      "delete it",
      async () => {
        await page.getByRole("button", { name: "Delete" }).click();
        await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
        await page.waitForURL((u) => u.pathname.endsWith("/checks"));
      },
    ],
    ["no errors in the console", async () => must(faults.length === 0, faults.join("\n"))],
  ],
  (path) => page.screenshot({ path }),
);
await control("up");
await browser.close();
