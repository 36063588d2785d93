import { expect, test, vi } from "vitest";
import type { RuleGroup } from "../api/rules";
import type { Alert, Route } from "../api/types";
import { yRange } from "../components/Chart";
import { groupAlerts } from "./alerts/group";
import { byDay } from "./events/days";
import { cellAt, fleetLayout, fleetPaths } from "./overview/fleet";
import { matching } from "./rules/view";
import { routeTree } from "./settings/routeTree";

const alert = (fingerprint: string, labels: Record<string, string>): Alert => ({
  fingerprint,
  labels,
  starts_at: "2026-11-20T08:00:00Z",
  status: "active",
});

vi.mock("uplot", () => ({ default: vi.fn() }));

test("alerts are grouped, the worst first, with what they share", () => {
  const groups = groupAlerts(
    [
      alert("1", { alertname: "Slow", severity: "warning", team: "web" }),
      alert("2", { alertname: "Down", severity: "critical", team: "web", check: "a" }),
      alert("3", { alertname: "Down", severity: "critical", team: "web", check: "b" }),
    ],
    "alertname",
  );
  expect(groups.map((g) => [g.key, g.alerts.length])).toEqual([
    ["Down", 2],
    ["Slow", 1],
  ]);
  expect(groups[0]?.shared).toEqual({ alertname: "Down", severity: "critical", team: "web" });
});

test("the routing tree keeps the order, and receivers are inherited", () => {
  const r = (id: string, name: string, parent: string, more: Partial<Route> = {}): Route => ({
    id,
    name,
    parent,
    ...more,
  });
  const tree = routeTree([
    r("3", "late", "root", { position: 2 }),
    r("1", "root", "", { receiver: "mail" }),
    r("2", "early", "1", { position: 1, receiver: "chat" }),
    r("4", "leaf", "early"),
  ]);
  expect(tree).toHaveLength(1);
  expect(tree[0]?.children.map((c) => [c.route.name, c.receiver])).toEqual([
    ["early", "chat"],
    ["late", "mail"],
  ]);
  expect(tree[0]?.children[0]?.children[0]?.receiver).toBe("chat");
});

test("a parent that is its own child does not hang the page", () => {
  expect(routeTree([{ id: "1", name: "a", parent: "a" }])).toEqual([]);
});

test("days are cut where the day changes", () => {
  expect(byDay(["b2", "b1", "a1"], (x) => x.charAt(0))).toEqual([
    ["b", ["b2", "b1"]],
    ["a", ["a1"]],
  ]);
});

test("the fleet map stays small in nodes and height", () => {
  for (const n of [1, 50, 2000]) {
    const l = fleetLayout(n, 600);
    expect(l.height).toBeLessThanOrEqual(n < 2000 ? 200 : 320);
    expect(Object.keys(fleetPaths(new Array<"up">(n).fill("up"), l))).toEqual(["up"]);
  }
  const l = fleetLayout(50, 600);
  expect(cellAt(1, 1, l, 50)).toBe(0);
  expect(cellAt(l.pitch + 1, 1, l, 50)).toBe(1);
  expect(cellAt(1, l.height - 1, l, 50)).toBe(Math.floor(49 / l.columns) * l.columns);
  expect(cellAt(599, l.height - 1, l, 2)).toBeNull();
});

test("the axis holds all lines, with zero unless that flattens them", () => {
  expect(yRange(null, null, false)).toEqual([0, 1]);
  expect(yRange(0, 100, true)).toEqual([0, 108]);
  expect(yRange(-20, -10, false)).toEqual([-21.6, 0]);
  expect(yRange(1000, 1001, false)).toEqual([0, 1001 * 1.08]);
  const [low, high] = yRange(1000, 1001, true);
  expect(low).toBeGreaterThan(999);
  expect(high).toBeLessThan(1002);
  expect(yRange(5, 5, true)).toEqual([0, 5 * 1.08]);
});

test("a broken rule that goes on firing is found as both", () => {
  const rule = (name: string, state: string, health = "ok") => ({
    type: "alerting" as const,
    name,
    expr: "up",
    state,
    health,
    took_seconds: 0,
  });
  const g = {
    name: "g",
    rules: [rule("a", "firing", "err"), rule("b", "firing"), rule("c", "inactive")],
  } as RuleGroup;
  const names = (states: string[]) => matching(g, "", states).map((r) => r.name);
  expect(names(["firing"])).toEqual(["a", "b"]);
  expect(names(["broken"])).toEqual(["a"]);
  expect(names([])).toEqual(["a", "b", "c"]);
});
