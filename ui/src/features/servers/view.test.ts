import { expect, test } from "vitest";
import { cluster, node } from "../../../test/cluster";
import { backlog, copied, joinAddress, joinCommand, seen, sides, size } from "./view";

const names = (s: ReturnType<typeof sides>) => [s.here.map((n) => n.name), s.there.map((n) => n.name)];

test("a whole cluster has one side", () => {
  expect(names(sides(cluster()))).toEqual([["n1", "n2", "n3"], []]);
});

test("a server that nobody here sees is on the other side", () => {
  const [n1, n2, n3] = cluster();
  const nodes = [
    { ...n1, views: { n2: "alive", n3: "dead" } },
    { ...n2, views: { n1: "alive", n3: "dead" } },
    { ...n3, state: "dead", views: null },
  ] as ReturnType<typeof cluster>;
  expect(names(sides(nodes))).toEqual([["n1", "n2"], ["n3"]]);
});

test("who is reached over another one is on this side", () => {
  const [n1, n2, n3] = cluster();
  const nodes = [
    { ...n1, views: { n2: "alive", n3: "dead" } },
    n2,
    { ...n3, state: "dead", views: null },
  ] as ReturnType<typeof cluster>;
  expect(names(sides(nodes))).toEqual([["n1", "n2", "n3"], []]);
});

test("agents, removed and stopped servers have no side", () => {
  const nodes = [
    node("n1", { self: true }),
    node("gone", { state: "left" }),
    node("old", { revoked: true, state: "dead" }),
    node("a1", { role: "agent" }),
  ];
  expect(names(sides(nodes))).toEqual([["n1"], []]);
});

test("what this server thinks is known from the states", () => {
  const n1 = node("n1", { self: true, views: null });
  const n2 = node("n2", { state: "suspect", views: null });
  expect(seen(n1, n2)).toBe("suspect");
  expect(seen(n2, n1)).toBeUndefined();
});

test("sizes and progress", () => {
  expect([0, 999, 2500, 2_500_000, 150e6, 3.14e9].map(size)).toEqual([
    "0 B",
    "999 B",
    "2.5 kB",
    "2.5 MB",
    "150 MB",
    "3.1 GB",
  ]);
  const n = node("n1", {
    relay: [
      { to: "n2", bytes: 5, oldest: null, connected: true, dropped: false, error: "" },
      { to: "n3", bytes: 6, oldest: null, connected: true, dropped: false, error: "" },
    ],
  });
  expect(backlog(n)).toBe(11);
  expect(copied(n)).toBeUndefined();
});

test("the command of a new machine is whole and safe to paste", () => {
  const at = joinAddress(cluster(), "pages.example");
  expect(at).toBe("10.0.0.1:9701");
  expect(joinAddress([], "pages.example")).toBe("pages.example:9701");
  expect(
    joinCommand({ role: "server", token: "pnp1.x", name: "n4", region: "eu", bind: "10.0.0.4" }, at),
  ).toBe(
    "panoptes server --node n4 --region eu --data-dir /var/lib/panoptes --bind 10.0.0.4 --join 10.0.0.1:9701 --token pnp1.x",
  );
  expect(joinCommand({ role: "witness", token: "t", region: "it's; rm" }, at)).toContain(
    `panoptes server --witness --node NAME --region 'it'\\''s; rm' `,
  );
  expect(joinCommand({ role: "agent", token: "t" }, at)).toBe(
    "panoptes-agent --region REGION --join 10.0.0.1:9701 --token t",
  );
  expect(joinCommand({ role: "agent", token: "t", region: "eu", checks: true }, at)).toBe(
    "panoptes-agent --region eu --join 10.0.0.1:9701 --token t --checks",
  );
});
