import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { answer, show } from "../../test/wrap";
import { endOf, SilenceForm } from "./SilenceForm";

const alert = {
  fingerprint: "f",
  labels: { alertname: "CheckDown", check: "shop", severity: "critical" },
  starts_at: "",
  status: "active",
};

test("shows what it covers and creates the silence", async () => {
  const calls = answer({
    "POST /v1/silences/preview": () => [200, { alerts: [alert] }],
    "POST /v1/silences": () => [201, { id: "s" }],
  });
  const onClose = vi.fn();
  show(<SilenceForm matchers={['check="shop"']} onClose={onClose} />);
  expect(await screen.findByText("Matches 1 alert now")).toBeVisible();
  expect(screen.getByText("CheckDown")).toBeVisible();
  await userEvent.type(screen.getByLabelText("Comment"), "deploy");
  await userEvent.click(screen.getByRole("button", { name: "4 hours" }));
  await userEvent.click(screen.getByRole("button", { name: "Silence" }));
  await waitFor(() => expect(onClose).toHaveBeenCalled());
  const body = calls.find((c) => c.path === "/v1/silences")?.body as {
    matchers: string[];
    comment: string;
    starts_at: string;
    ends_at: string;
  };
  expect(body.matchers).toEqual(['check="shop"']);
  expect(body.comment).toBe("deploy");
  expect(Date.parse(body.ends_at) - Date.parse(body.starts_at)).toBe(4 * 3_600_000);
});

test("asks for a matcher first, and refuses what is none", async () => {
  answer({ "POST /v1/silences/preview": () => [200, { alerts: [] }] });
  show(<SilenceForm matchers={[]} onClose={() => undefined} />);
  expect(screen.getByRole("button", { name: "Silence" })).toBeDisabled();
  const input = screen.getByLabelText("Add a matcher");
  await userEvent.type(input, "nonsense{Enter}");
  expect(screen.getByText('Write name="value", !=, =~ or !~')).toBeVisible();
  await userEvent.clear(input);
  await userEvent.type(input, "team=web{Enter}");
  expect(screen.getByRole("button", { name: 'Remove team="web"' })).toBeVisible();
  expect(screen.getByRole("button", { name: "Silence" })).toBeEnabled();
});

test("presets end when they say", () => {
  const now = new Date(2026, 10, 20, 22).getTime();
  expect(endOf("1h", "", now) - now).toBe(3_600_000);
  expect(new Date(endOf("morning", "", now)).getHours()).toBe(9);
  expect(endOf("custom", "2026-11-21T12:00", now)).toBe(new Date(2026, 10, 21, 12).getTime());
});
