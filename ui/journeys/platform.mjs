// The metrics platform: a prometheus.yml is taken over, rules are written, tried, changed and brought back, a backup is made.
import { axe, env, eventually, launch, login, must, open, steps } from "./lib.mjs";

const browser = await launch();
const { page, faults } = await open(browser);
const clean = async (what) => {
  const found = await axe(page);
  must(found.length === 0, `${what}: ${found.join("\n")}`);
  must(faults.length === 0, `${what}: ${faults.join("\n")}`);
};
/** refused takes the refusals that a step asked for out of the console's faults. */
const refused = () => faults.splice(0, faults.length, ...faults.filter((f) => !f.includes("400")));

const CONFIG = `global:
  scrape_interval: 30s
  external_labels: {cluster: prod}
rule_files: ["rules/*.yml"]
remote_write:
  - url: http://elsewhere.invalid/api/v1/push
scrape_configs:
  - job_name: journey
    static_configs:
      - targets: ["127.0.0.1:9"]
`;
const RULES = (expr) => `groups:
  - name: journey
    interval: 5s
    rules:
      - alert: JourneyAlways
        expr: ${expr}
        labels:
          severity: info
`;

const text = async (value) => {
  await page.locator(".cm-content").click();
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText(value);
};
const drop = async (name) => {
  await page.locator(".records li", { hasText: name }).locator(".danger").click();
  await page.locator("dialog .actions button").last().click();
  await page.locator(".records li", { hasText: name }).waitFor({ state: "detached" });
};

await steps(
  [
    ["log in", () => login(page)],
    [
      "a prometheus.yml: what would change, and what is not taken over",
      async () => {
        await page.goto(`${env.base}/scrapes`);
        await page.getByRole("button", { name: "Import" }).click();
        const dialog = page.getByRole("dialog");
        await dialog.getByLabel("prometheus.yml", { exact: true }).fill("scrape_configs: [{");
        await dialog.getByRole("button", { name: "Show what would change" }).click();
        await dialog.getByRole("alert").waitFor();
        refused();
        await dialog.getByLabel("prometheus.yml", { exact: true }).fill(CONFIG);
        await dialog.getByRole("button", { name: "Show what would change" }).click();
        await dialog.locator(".preview li", { hasText: "journey" }).waitFor();
        const notes = await dialog.locator(".notes-list").innerText();
        for (const part of ["external_labels", "rule_files", "remote_write"])
          must(notes.includes(part), `nothing is said about ${part}: ${notes}`);
        await clean("the import");
        await dialog.getByRole("button", { name: "Take it over" }).click();
        await dialog.waitFor({ state: "detached" });
        await page.locator(".targets tr", { hasText: "127.0.0.1:9" }).waitFor();
        await page.goto(`${env.base}/scrapes/jobs`);
        await page.locator(".records li", { hasText: "journey" }).waitFor();
        await clean("the jobs");
        await drop("journey");
      },
    ],
    [
      "rules: a fault stands at its line, the trial says when they would have fired",
      async () => {
        await page.goto(`${env.base}/rules/new`);
        await page.fill("[data-field=name]", "journey");
        await text(RULES("vector(1"));
        await page.getByRole("button", { name: "Line 6" }).waitFor();
        refused();
        await text(RULES("vector(1) > 0"));
        await page.locator(".checked-good").waitFor();
        await page.getByRole("button", { name: "24 h" }).click();
        await page.getByRole("button", { name: "Try it" }).click();
        await page.getByText("would have fired once").waitFor();
        await clean("the editor of rules");
        await page.getByRole("button", { name: "Save" }).click();
        await page.waitForURL(/\/rules\/sets$/);
        await eventually("the rule fires", async () => {
          await page.goto(`${env.base}/rules?state=firing`);
          await page.locator(".rule-row", { hasText: "JourneyAlways" }).waitFor({ timeout: 2000 });
          return true;
        });
        await clean("the rules");
      },
    ],
    [
      "they are changed, and the version before is brought back",
      async () => {
        await page.goto(`${env.base}/rules/sets`);
        await page.getByRole("link", { name: "journey", exact: true }).click();
        await page.waitForSelector(".cm-content");
        await text(RULES("vector(7) > 6"));
        await page.locator(".checked-good").waitFor();
        await page.getByRole("button", { name: "Save" }).click();
        await page.waitForURL(/\/rules\/sets$/);
        await page.getByRole("link", { name: "Versions of journey" }).click();
        await page.locator(".version-list button").last().click();
        await page.getByRole("button", { name: "Bring this version back" }).click();
        await page.locator("dialog .actions button").last().click();
        await eventually(
          "a third version",
          async () => (await page.locator(".version-list button").count()) === 3,
        );
        await clean("the versions");
        await page.locator(".page-actions").getByText("Edit").click();
        await page.locator(".cm-content", { hasText: "vector(1) > 0" }).waitFor();
        await page.goto(`${env.base}/rules/sets`);
        await drop("journey");
      },
    ],
    [
      "a backup: its key is shown once, and it is in the list",
      async () => {
        await page.goto(`${env.base}/settings/backup`);
        await page.waitForSelector("#backup-setup, .empty, #backup-list");
        if (await page.locator("#backup-setup").count()) return clean("the backup that is not set up");
        const before = await page.locator("#backup-list ~ .scroll-x tbody tr").count();
        await page.getByRole("button", { name: "Back up now" }).click();
        await page.locator(".done").waitFor({ timeout: 60_000 });
        const key = page.getByTestId("recovery-key");
        if (before === 0) {
          must(/^pnpr1-/.test(await key.innerText()), "the first backup shows no recovery key");
          await clean("the recovery key");
          await page.getByRole("button", { name: "I have stored it" }).click();
        }
        await eventually(
          "the backup is in the list",
          async () => (await page.locator("#backup-list ~ .scroll-x tbody tr").count()) === before + 1,
        );
        await clean("the backups");
      },
    ],
  ],
  (path) => page.screenshot({ path }),
);
await browser.close();
