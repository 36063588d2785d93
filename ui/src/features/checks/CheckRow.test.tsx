import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { show } from "../../../test/wrap";
import type { Check } from "../../api/types";
import { CheckRow } from "./CheckRow";

const check: Check = {
  id: "01J",
  name: "shop",
  type: "http",
  target: "https://shop.example/",
  labels: { team: "web" },
  state: {
    status: "down",
    since: "2026-11-20T08:00:00Z",
    message: "connection refused",
    regions: {
      eu: { status: "down", at: "", message: "", duration_seconds: 0.2, prober: "a" },
      us: { status: "up", at: "", message: "", duration_seconds: 0.4, prober: "b" },
    },
  },
  bars: [{ s: "up" }, { s: "down", down: 60 }, { s: "up" }],
  uptime: { "24h": 0.992 },
};
const base = { index: 0, offset: 0, height: 48, phone: false, current: false, picked: false };

test("says state, reason, response time and history in words", () => {
  show(<CheckRow {...base} check={check} onPick={() => undefined} onLabel={() => undefined} />);
  expect(screen.getByRole("link", { name: "shop" })).toHaveAttribute("href", "/checks/01J");
  expect(screen.getByText("down")).toBeVisible();
  expect(screen.getByText("connection refused")).toBeVisible();
  expect(screen.getByText("300 ms")).toBeVisible();
  expect(screen.getByRole("img", { name: "Uptime 99.2 %, 1 outage, down for 1 min" })).toBeVisible();
});

test("draws its history with one path per state", () => {
  const { container } = show(
    <CheckRow {...base} check={check} onPick={undefined} onLabel={() => undefined} />,
  );
  expect(container.querySelectorAll(".bars path")).toHaveLength(2);
});

test("a label filters, the box selects", async () => {
  const onLabel = vi.fn();
  const onPick = vi.fn();
  show(<CheckRow {...base} check={check} onPick={onPick} onLabel={onLabel} />);
  await userEvent.click(screen.getByRole("button", { name: /^team=/ }));
  expect(onLabel).toHaveBeenCalledWith("team", "web");
  await userEvent.click(screen.getByRole("checkbox", { name: "Select shop" }));
  expect(onPick).toHaveBeenCalledWith("01J");
});
