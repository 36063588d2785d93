import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { answer, show } from "../../../test/wrap";
import type { KindType } from "../../api/types";
import { CheckForm } from "./CheckForm";

const kind: KindType = {
  name: "http",
  label: { en: "HTTP(S)" },
  target: { label: { en: "URL" }, placeholder: "https://shop.example/" },
  fields: [
    { name: "method", type: "enum", default: "GET", enum: ["GET", "POST"], label: { en: "Method" } },
    { name: "expect_status", type: "list", label: { en: "Expected status" } },
    { name: "basic_auth.password", type: "secret", advanced: true, label: { en: "Password" } },
  ],
};
const form = (start = {}) => (
  <CheckForm
    id={undefined}
    revision={undefined}
    kind={kind}
    start={{ name: "", type: "http", target: "", ...start }}
  />
);

// Pasted: typed key by key, a busy machine takes half a minute.
async function fill(label: string | RegExp, text: string) {
  await userEvent.click(screen.getByLabelText(label));
  await userEvent.paste(text);
}

test("saves what was filled in, nested as the API wants it, and opens the check", async () => {
  const calls = answer({ "POST /v1/checks": () => [201, { id: "01J", name: "shop", type: "http" }] });
  const { location } = show(form());
  await fill(/^Name/, "shop");
  await fill(/^URL/, "https://shop.example/");
  await fill("Expected status", "200-299\n404");
  await userEvent.selectOptions(screen.getByLabelText("Method"), "POST");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await waitFor(() => expect(location.history).toContain("/checks/01J"));
  expect(calls[0]?.body).toEqual({
    name: "shop",
    type: "http",
    target: "https://shop.example/",
    http: { method: "POST", expect_status: ["200-299", "404"] },
  });
});

test("shows the server's faults at their fields, and those without one above", async () => {
  answer({
    "POST /v1/checks": () => [
      400,
      {
        error: {
          code: "invalid",
          message: "three faults",
          fields: [
            { field: "name", message: "must be given" },
            { field: "http.expect_status[0]", message: "is no status" },
            { field: "http.odd", message: "there is no such field" },
          ],
        },
      },
    ],
  });
  show(form());
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  expect(await screen.findByText("must be given")).toBeVisible();
  expect(screen.getByText("[0]: is no status")).toBeVisible();
  expect(screen.getByRole("alert")).toHaveTextContent("http.odd: there is no such field");
  expect(screen.getByLabelText(/^Name/)).toHaveAttribute("aria-invalid", "true");
});

test("keeps a stored secret unless another is typed", async () => {
  const calls = answer({ "POST /v1/checks": () => [201, { id: "1", name: "a", type: "http" }] });
  show(form({ name: "a", http: { basic_auth: { password: "<redacted>" } } }));
  const input = screen.getByLabelText("Password");
  expect(input).toHaveValue("");
  expect(input).toHaveAttribute("placeholder", "stored; leave empty to keep it");
  await userEvent.click(screen.getByRole("button", { name: "Save" }));
  await waitFor(() => expect(calls).toHaveLength(1));
  expect(calls[0]?.body).toMatchObject({ http: { basic_auth: { password: "<redacted>" } } });
});

test("tests before saving and says what each region found", async () => {
  answer({
    "POST /v1/checks/test": () => [
      200,
      {
        results: [
          {
            region: "eu",
            prober: "a",
            success: false,
            message: "500 Internal Server Error",
            duration_seconds: 0.05,
            assertions: [{ text: "status is 200-299", found: "500", passed: false }],
          },
        ],
      },
    ],
  });
  show(form({ name: "a" }));
  await userEvent.click(screen.getByRole("button", { name: "Test now" }));
  expect(await screen.findByText("500 Internal Server Error")).toBeVisible();
  expect(screen.getByText("status is 200-299")).toBeVisible();
  expect(screen.getByText("found 500")).toBeVisible();
});
