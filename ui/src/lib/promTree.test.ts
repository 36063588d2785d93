import { expect, test } from "vitest";
import { millis, treeOf } from "./promTree";

test("an expression becomes a tree for people", () => {
  const tree = treeOf({
    type: "binaryExpr",
    op: "/",
    bool: false,
    matching: { card: "many-to-one", labels: ["job"], on: true, include: ["team"] },
    lhs: {
      type: "aggregation",
      op: "sum",
      without: false,
      grouping: ["job"],
      param: null,
      expr: {
        type: "call",
        func: { name: "rate" },
        args: [
          {
            type: "matrixSelector",
            name: "a_total",
            range: 300_000,
            offset: 3_600_000,
            timestamp: null,
            startOrEnd: null,
            matchers: [
              { name: "code", type: "=~", value: "5.." },
              { name: "__name__", type: "=", value: "a_total" },
            ],
          },
        ],
      },
    },
    rhs: { type: "numberLiteral", val: "2" },
  });
  expect(tree.text).toBe("/ on (job) group_left (team)");
  expect(tree.parts[0]?.text).toBe("sum by (job)");
  expect(tree.parts[0]?.parts[0]?.text).toBe("rate()");
  expect(tree.parts[0]?.parts[0]?.parts[0]?.text).toBe('a_total{code=~"5.."}[5m] offset 1h');
  expect(tree.parts[1]).toEqual({ kind: "numberLiteral", text: "2", parts: [] });
});

test("what is not known does no harm", () => {
  expect(treeOf(null)).toEqual({ kind: "unknown", text: "", parts: [] });
  expect(treeOf({ type: "new", expr: { type: "stringLiteral", val: "x" } }).parts[0]?.text).toBe('"x"');
  expect(treeOf({ type: "vectorSelector", name: "", matchers: [] }).text).toBe("{}");
});

test("durations", () => {
  expect([0, 90_000, -60_000, 1500].map(millis)).toEqual(["", "1m30s", "-1m", "1s500ms"]);
});
