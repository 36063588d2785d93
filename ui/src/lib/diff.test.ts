import { expect, test } from "vitest";
import { diffLines, hunks, tally } from "./diff";

const show = (a: string, b: string) =>
  diffLines(a, b).map((l) => ({ same: " ", added: "+", removed: "-" })[l.kind] + l.text);

test("only what changed is marked", () => {
  expect(show("a\nb\nc\n", "a\nx\nc\nd\n")).toEqual([" a", "-b", "+x", " c", "+d"]);
  expect(show("a\nb\n", "a\nb\n")).toEqual([" a", " b"]);
  expect(show("", "a\n")).toEqual(["+a"]);
  expect(show("a\n", "")).toEqual(["-a"]);
});

test("lines keep their numbers on both sides", () => {
  expect(diffLines("a\nb", "b")).toEqual([
    { kind: "removed", text: "a", old: 1 },
    { kind: "same", text: "b", old: 2, now: 1 },
  ]);
});

test("a moved block is as few changes as possible", () => {
  expect(tally(diffLines("a\nb\nc\nd", "c\nd\na\nb"))).toEqual({ added: 2, removed: 2 });
});

test("two texts without anything in common do not take for ever", () => {
  const many = (c: string) => Array.from({ length: 5000 }, (_, i) => c + i).join("\n");
  expect(tally(diffLines(many("a"), many("b")))).toEqual({ added: 5000, removed: 5000 });
});

test("what is far from changes is left out", () => {
  const a = Array.from({ length: 30 }, (_, i) => String(i));
  const b = a.map((l, i) => (i === 15 ? "x" : l));
  const h = hunks(diffLines(a.join("\n"), b.join("\n")));
  expect(h.map((x) => ("skipped" in x ? x.skipped : x.lines.map((l) => l.text).join(",")))).toEqual([
    12,
    "12,13,14,15,x,16,17,18",
    11,
  ]);
  expect(hunks([])).toEqual([]);
});
