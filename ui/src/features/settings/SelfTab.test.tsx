import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { answer, show } from "../../../test/wrap";
import { SelfTab } from "./SelfTab";
import { tidy } from "./selfSettings";

const rule = {
  name: "DiskFilling",
  threshold: 15,
  unit: "%",
  for: "1m",
  severity: "warning",
  level: "L4",
  title: { en: "The disk fills up" },
  runbook: { en: "Free space." },
};
const routes = (settings: object[]): Parameters<typeof answer>[0] => ({
  "GET /v1/self-monitoring/rules": () => [200, { items: [rule] }],
  "GET /v1/settings": () => [200, { items: settings }],
  "GET /v1/receivers": () => [200, { items: [{ id: "1", name: "hook", type: "webhook" }] }],
  "POST /v1/settings": (c) => [201, c.body],
  "PUT /v1/settings/self-monitoring": (c) => [200, c.body],
});

test("what is empty or unchanged is not kept", () => {
  expect(
    tidy({
      rules: { B: { disabled: false, threshold: "", for: "" }, A: { threshold: "5", disabled: true } },
      dead_man: { url: "", interval: "1m" },
      canary: { receiver: "" },
    }),
  ).toEqual({ rules: { A: { threshold: 5, disabled: true } }, dead_man: { interval: "1m" } });
  expect(tidy({ rules: { A: { threshold: "much" } } })).toEqual({ rules: { A: { threshold: "much" } } });
});

test("the first change makes the setting, with numbers as numbers", async () => {
  const calls = answer(routes([]));
  show(<SelfTab />, "/settings/self", "admin");
  await userEvent.type(await screen.findByLabelText("The disk fills up: Threshold"), "20");
  await userEvent.click(screen.getByRole("switch", { name: /^The disk fills up/ }));
  await userEvent.selectOptions(screen.getByLabelText("Receiver"), "hook");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await waitFor(() =>
    expect(calls.find((c) => c.method === "POST")?.body).toEqual({
      name: "self-monitoring",
      value: { rules: { DiskFilling: { threshold: 20, disabled: true } }, canary: { receiver: "hook" } },
    }),
  );
});

test("a later change replaces it; faults stand at their fields", async () => {
  const calls = answer({
    ...routes([
      { id: "S", name: "self-monitoring", revision: 7, value: { rules: { DiskFilling: { for: "2m" } } } },
    ]),
    "PUT /v1/settings/self-monitoring": () => [
      400,
      {
        error: {
          code: "invalid",
          message: "x",
          fields: [{ field: "value.rules.DiskFilling.for", message: "must be from 0s to 24h" }],
        },
      },
    ],
  });
  show(<SelfTab />, "/settings/self", "admin");
  const input = await screen.findByLabelText("The disk fills up: For at least");
  expect(input).toHaveValue("2m");
  await userEvent.type(input, "0000h");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  expect(await screen.findByText("must be from 0s to 24h")).toBeVisible();
  expect(calls.some((c) => c.method === "PUT")).toBe(true);
});

test("others than administrators only read", async () => {
  answer(routes([]));
  show(<SelfTab />);
  expect(await screen.findByLabelText("The disk fills up: Threshold")).toBeDisabled();
  expect(screen.queryByRole("button", { name: "Save" })).toBeNull();
});
