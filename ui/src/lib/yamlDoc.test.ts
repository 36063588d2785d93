import { describe, expect, test } from "vitest";
import { placed, readRules, template, writeRules } from "./rulesDoc";
import { fieldPath, readYaml, typedYaml, writeYaml } from "./yamlDoc";

const FILE = `# shop
groups:
  - name: shop
    limit: 10
    interval: 30s
    labels:
    rules:
      - alert: Slow
        expr: |
          rate(a[5m])
            > 1
        for: 5m
        labels: {severity: warning, version: 1.10, on: "yes"}
      - record: one
        expr: 1
`;

describe("rule files", () => {
  test("texts stay as they are written, and only limits are numbers", () => {
    const { groups, faults } = readRules(FILE, "no groups");
    expect(faults).toEqual([]);
    expect(groups).toEqual([
      {
        name: "shop",
        limit: 10,
        interval: "30s",
        rules: [
          {
            alert: "Slow",
            expr: "rate(a[5m])\n  > 1\n",
            for: "5m",
            labels: { severity: "warning", version: "1.10", on: "yes" },
          },
          { record: "one", expr: "1" },
        ],
      },
    ]);
  });

  test("what is written is read again", () => {
    const { groups } = readRules(FILE, "");
    expect(readRules(writeRules(groups), "").groups).toEqual(groups);
    expect(writeRules(groups)).toContain("expr: |\n");
  });

  test("fields are found at their lines, or their nearest parent", () => {
    const { line } = readRules(FILE, "");
    expect(line("groups[0].rules[1].expr")).toBe(15);
    expect(line("groups[0].rules[0].labels.severity")).toBe(13);
    expect(line("groups[0].rules[1].annotations.summary")).toBe(14);
    expect(line("groups[0].name")).toBe(3);
    expect(line("elsewhere")).toBe(0);
  });

  test("faults of the server go to their lines in order", () => {
    const { line } = readRules(FILE, "");
    expect(placed({ "config.groups[0].name": "taken", name: "x" }, line, "config")).toEqual([
      { line: 3, message: "groups[0].name: taken" },
    ]);
    expect(placed({ "groups[0].rules[1].expr": "bad", "groups[0].name": "taken" }, line)).toEqual([
      { line: 3, message: "groups[0].name: taken" },
      { line: 15, message: "groups[0].rules[1].expr: bad" },
    ]);
  });

  test("broken YAML names the line", () => {
    const { faults } = readRules("groups:\n  - name: a\n   rules: []\n", "");
    expect(faults[0]?.line).toBeGreaterThan(1);
    expect(readRules("rules: []", "no groups").faults).toEqual([{ line: 1, message: "no groups" }]);
    expect(readRules("groups:\n  - a\n", "no groups").faults).toEqual([{ line: 1, message: "no groups" }]);
    expect(readRules("", "no groups").faults).toHaveLength(1);
  });

  test("aliases are resolved, and a bomb is refused", () => {
    const { groups } = readRules("x: &l {team: web}\ngroups:\n  - {name: a, labels: *l, rules: []}\n", "");
    expect(groups[0]?.labels).toEqual({ team: "web" });
    const bomb = ["a: &a [x,x,x,x,x,x,x,x,x]"];
    for (let i = 1; i < 9; i++) {
      const [now, last] = [String.fromCharCode(97 + i), String.fromCharCode(96 + i)];
      bomb.push(`${now}: &${now} [${Array(9).fill(`*${last}`).join(",")}]`);
    }
    expect(readYaml(bomb.join("\n")).faults).toHaveLength(1);
  });

  test("the template takes any expression", () => {
    for (const expr of ["up == 0", 'up{job="a"} == 0', "a\n  # note\n/ b", "-x", "1 > bool 0"])
      expect((readRules(template(expr), "").groups[0]?.rules as { expr: string }[])[0]?.expr).toBe(expr);
  });
});

test("paths of fields have names and numbers", () => {
  expect(fieldPath("groups[0].rules[12].labels.a_b")).toEqual(["groups", 0, "rules", 12, "labels", "a_b"]);
});

test("long lines are not broken", () => {
  expect(
    writeYaml({ a: "x ".repeat(200) + "y" })
      .trim()
      .split("\n"),
  ).toHaveLength(1);
});

test("numbers and truth values are those of YAML 1.1, except where all is text", () => {
  expect(
    typedYaml(`sample_limit: 100
honor_labels: yes
quoted: "yes"
nothing:
password: <redacted>
relabel_configs:
  - {regex: 1, target_label: "on", replacement: no}
static_configs:
  - targets: [a:1]
    labels: {version: 1.10, flag: true}
`),
  ).toEqual({
    sample_limit: 100,
    honor_labels: true,
    quoted: "yes",
    nothing: null,
    password: "<redacted>",
    relabel_configs: [{ regex: "1", target_label: "on", replacement: "no" }],
    static_configs: [{ targets: ["a:1"], labels: { version: "1.10", flag: "true" } }],
  });
  expect(typedYaml("a: [")).toBeUndefined();
  expect(typedYaml("a: &x 1\nb: *x\n")).toBeUndefined();
});
