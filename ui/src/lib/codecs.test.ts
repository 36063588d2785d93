import { expect, test } from "vitest";
import { decodePanels, emptyPanel, encodePanels } from "./exploreUrl";
import { equal, formatMatcher, normalizeMatcher, parseMatcher } from "./matchers";
import { align, seriesName, stack } from "./series";
import { toYAML } from "./yaml";

test("Explore's state survives the address", () => {
  const panels = [
    {
      expr: 'rate(x{a="b&c"}[5m])',
      tab: "graph" as const,
      range: "6h",
      end: "2026-11-20T08:00:00Z",
      step: "15",
    },
    { ...emptyPanel(), expr: "up" },
  ];
  expect(decodePanels(new URLSearchParams(encodePanels(panels).toString()))).toEqual(panels);
  expect(decodePanels(new URLSearchParams())).toEqual([emptyPanel()]);
  expect(decodePanels(new URLSearchParams("g0.expr=up&g0.tab=0"))[0]?.tab).toBe("graph");
});

test.each([
  ['severity="critical"', 'severity="critical"'],
  ["severity=critical", 'severity="critical"'],
  [' team != "a b" ', 'team!="a b"'],
  ['check=~"shop.*"', 'check=~"shop.*"'],
  ["a!~b", 'a!~"b"'],
  ['a=""', 'a=""'],
])("normalizeMatcher(%s)", (text, want) => {
  expect(normalizeMatcher(text)).toBe(want);
});

test.each(["", "severity", "=x", '1a="b"', 'a="unfinished'])("normalizeMatcher refuses %j", (text) => {
  expect(normalizeMatcher(text)).toBeNull();
});

test("matchers quote what needs it", () => {
  const m = { name: "a", op: "=" as const, value: 'say "hi" \\ there\nnow' };
  expect(parseMatcher(formatMatcher(m))).toEqual(m);
  expect(equal("check", 'a"b')).toBe('check="a\\"b"');
});

test("align puts series on one axis and leaves gaps", () => {
  const s = [
    {
      metric: { a: "1" },
      values: [
        [100, "1"],
        [120, "3"],
      ] as [number, string][],
    },
    {
      metric: { a: "2" },
      values: [
        [110, "NaN"],
        [9999, "7"],
      ] as [number, string][],
    },
  ];
  expect(align(s, 100, 120, 10)).toEqual([
    [100, 110, 120],
    [1, null, 3],
    [null, null, null],
  ]);
});

test("stack adds up and treats gaps as nothing", () => {
  expect(
    stack([
      [0, 1],
      [1, null],
      [2, 3],
    ]),
  ).toEqual([
    [0, 1],
    [1, null],
    [3, 3],
  ]);
});

test("seriesName writes PromQL", () => {
  expect(seriesName({ __name__: "up", job: "a" })).toBe('up{job="a"}');
  expect(seriesName({})).toBe("{}");
});

test("toYAML quotes what YAML would read as something else", () => {
  const doc = {
    kind: "check",
    name: "yes",
    n: 1,
    ok: true,
    list: ["a: b", "x", {}],
    nested: { url: "https://a/b?c=d", empty: [] },
    rows: [{ a: 1, b: { c: "2" } }],
  };
  expect(toYAML(doc)).toBe(
    `kind: check\nname: "yes"\n"n": 1\nok: true\nlist:\n  - "a: b"\n  - x\n  - {}\nnested:\n  url: "https://a/b?c=d"\n  empty: []\nrows:\n  - a: 1\n    b:\n      c: "2"\n`,
  );
});
