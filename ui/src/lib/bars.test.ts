import { expect, test } from "vitest";
import type { Bar } from "../api/types";
import { barIndex, barPaths, downSeconds, outages } from "./bars";

const bars = (s: string): Bar[] =>
  [...s].map((c) => ({
    s: ({ u: "up", d: "down", x: "unknown", ".": "none" } as const)[c as "u"],
    ...(c === "d" ? { down: 30 } : {}),
  }));

test("one path per state, however many beats", () => {
  const p = barPaths(bars("uuduu".repeat(400)));
  expect(Object.keys(p).sort()).toEqual(["down", "up"]);
  expect(p.up?.match(/M/g)).toHaveLength(1600);
  expect(p.down?.match(/M/g)).toHaveLength(400);
});

test("states differ by height, not only by colour", () => {
  const heights = Object.values(barPaths(bars("ud.x"))).map((d) => /v(\d+)/.exec(d)?.[1]);
  expect(new Set(heights).size).toBe(4);
});

test("beats stand where they belong", () => {
  expect(barPaths(bars("ud")).down).toBe("M5 0h4v20h-4z");
});

test("barIndex stays inside", () => {
  expect(barIndex(-1, 60)).toBe(0);
  expect(barIndex(0.5, 60)).toBe(30);
  expect(barIndex(1, 60)).toBe(59);
});

test("outages counts runs, downSeconds time", () => {
  const b = bars("uddud.d");
  expect(outages(b)).toBe(3);
  expect(downSeconds(b)).toBe(120);
  expect(outages([])).toBe(0);
});
