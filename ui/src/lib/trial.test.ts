import { describe, expect, test } from "vitest";
import { sharedLabels, summary, ticks, tracks } from "./trial";

const from = "2026-11-20T00:00:00Z";
const to = "2026-11-20T10:00:00Z";
const at = (h: number) => `2026-11-20T0${h}:00:00Z`;

describe("trials", () => {
  const firings = [
    { labels: { a: "1", b: "x" }, active_at: at(1), fired_at: at(2), resolved_at: at(3) },
    { labels: { b: "x", a: "1" }, active_at: at(4), fired_at: at(5), resolved_at: at(7) },
    { labels: { a: "2", b: "x" }, active_at: at(5), fired_at: at(5) },
    { labels: { a: "3", b: "x" }, active_at: from, fired_at: from, earlier: true, resolved_at: at(1) },
  ];

  test("one row for each set of labels, the longest first", () => {
    const rows = tracks(firings, from, to);
    expect(rows.map((r) => [r.key, r.seconds / 3600])).toEqual([
      ["a=2,b=x", 5],
      ["a=1,b=x", 3],
      ["a=3,b=x", 1],
    ]);
    expect(rows[0]?.stretches[0]).toMatchObject({ x: 0.5, w: 0.5, open: true });
    expect(rows[1]?.stretches.map((s) => [s.x, s.w])).toEqual([
      [0.2, 0.1],
      [0.5, 0.2],
    ]);
    expect(rows[2]?.stretches[0]?.earlier).toBe(true);
  });

  test("counts and times add up", () => {
    expect(
      summary({ name: "A", type: "alerting", series: 3, samples: 9, pendings: 0, firings }, from, to),
    ).toEqual({
      firings: 4,
      alerts: 3,
      seconds: 9 * 3600,
    });
    expect(
      summary({ name: "A", type: "recording", series: 1, samples: 1, pendings: 0 }, from, to).firings,
    ).toBe(0);
  });

  test("labels that all share are told once", () => {
    expect(sharedLabels(firings.map((f) => f.labels))).toEqual({ b: "x" });
    expect(sharedLabels([])).toEqual({});
  });

  test("the axis has marks inside of the time", () => {
    for (const days of [0.1, 1, 2, 7, 30]) {
      const end = new Date(Date.parse(from) + days * 86_400_000).toISOString();
      const list = ticks(from, end);
      expect(list.length).toBeGreaterThan(0);
      expect(list.length).toBeLessThan(16);
      expect(list.every((x) => x.x > 0 && x.x < 1)).toBe(true);
    }
  });
});
