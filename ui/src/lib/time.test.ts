import { expect, test } from "vitest";
import { formatDuration, localInput, nextMorning, parseDuration, parseTime, stepFor } from "./time";

const NOW = Date.parse("2026-11-20T10:30:00Z");

test.each([
  ["1h30m", 5_400_000],
  ["250ms", 250],
  ["30d", 2_592_000_000],
  ["0", 0],
])("parseDuration(%s)", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(["", "h", "5", "1x", "-5m", "5m x"])("parseDuration refuses %j", (text) => {
  expect(parseDuration(text)).toBeNull();
});

test("durations survive being written and read", () => {
  for (const ms of [1, 999, 60_000, 5_400_000, 86_400_000, 93_784_005])
    expect(parseDuration(formatDuration(ms))).toBe(ms);
});

test("parseTime reads what people write", () => {
  expect(parseTime("now", NOW)).toBe(NOW);
  expect(parseTime("now-2h", NOW)).toBe(NOW - 7_200_000);
  expect(parseTime("now + 5m", NOW)).toBe(NOW + 300_000);
  expect(parseTime("2026-11-20T08:00:00Z", NOW)).toBe(Date.parse("2026-11-20T08:00:00Z"));
  expect(parseTime("1763600000", NOW)).toBe(1_763_600_000_000);
  expect(parseTime("昨天", NOW)).toBe(parseTime("yesterday", NOW));
  expect(parseTime("2026-11-20 08:00", NOW)).toBe(new Date(2026, 10, 20, 8).getTime());
  for (const bad of ["", "soon", "now-", "2026-13-45"]) expect(parseTime(bad, NOW)).toBeNull();
});

test("stepFor keeps to the number of points and the least step", () => {
  expect(stepFor(3_600_000, 240)).toBe(15);
  expect(stepFor(3_600_000, 240, 60)).toBe(60);
  for (const range of [60_000, 86_400_000, 31_536_000_000])
    expect(range / 1000 / stepFor(range, 240)).toBeLessThanOrEqual(240);
});

test("nextMorning is always ahead, by a day at most", () => {
  for (let h = 0; h < 48; h++) {
    const now = NOW + h * 3_600_000;
    const m = nextMorning(now);
    expect(m).toBeGreaterThan(now);
    expect(m - now).toBeLessThanOrEqual(25 * 3_600_000);
    expect(new Date(m).getHours()).toBe(9);
  }
});

test("localInput is read back by the browser's clock", () => {
  expect(new Date(localInput(NOW)).getTime()).toBe(NOW);
});
