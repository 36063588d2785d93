/** The parse tree of an expression, as /api/v1/parse_query gives it. */
export interface PromNode {
  type: string;
  [part: string]: unknown;
}
/** TreeNode is a node for people: what it is, its own words, and its parts. */
export interface TreeNode {
  kind: string;
  text: string;
  parts: TreeNode[];
}

const isNode = (v: unknown): v is PromNode =>
  typeof v === "object" && v !== null && typeof (v as PromNode).type === "string";
const texts = (v: unknown) => (Array.isArray(v) ? v.filter((x): x is string => typeof x === "string") : []);
const word = (v: unknown) => (typeof v === "string" ? v : "");

/** millis writes a duration of the API, "5m". */
export function millis(v: unknown): string {
  let rest = typeof v === "number" ? Math.abs(v) : 0;
  if (!rest) return "";
  let out = typeof v === "number" && v < 0 ? "-" : "";
  for (const [unit, size] of [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1000],
    ["ms", 1],
  ] as const) {
    const n = Math.floor(rest / size);
    if (n) out += `${n}${unit}`;
    rest -= n * size;
  }
  return out;
}

interface MatcherNode {
  name: string;
  type: string;
  value: string;
}

function selector(n: PromNode): string {
  const matchers = (Array.isArray(n.matchers) ? (n.matchers as MatcherNode[]) : []).filter(
    (m) => !(m.name === "__name__" && m.type === "=" && m.value === n.name),
  );
  const body = matchers.map((m) => `${m.name}${m.type}${JSON.stringify(m.value)}`).join(", ");
  return word(n.name) + (body || !n.name ? `{${body}}` : "");
}

function modifiers(n: PromNode): string {
  let out = "";
  if (typeof n.timestamp === "number") out += ` @ ${n.timestamp / 1000}`;
  if (n.startOrEnd) out += ` @ ${word(n.startOrEnd)}()`;
  const offset = millis(n.offset);
  return offset ? `${out} offset ${offset}` : out;
}

function matching(v: unknown): string {
  if (typeof v !== "object" || v === null) return "";
  const m = v as { card?: string; labels?: unknown; on?: boolean; include?: unknown };
  const labels = texts(m.labels);
  let out = "";
  if (m.on || labels.length) out += ` ${m.on ? "on" : "ignoring"} (${labels.join(", ")})`;
  const side = m.card === "many-to-one" ? "left" : m.card === "one-to-many" ? "right" : "";
  if (side) out += ` group_${side} (${texts(m.include).join(", ")})`;
  return out;
}

/** treeOf makes a tree for people of the API's. */
export function treeOf(n: unknown): TreeNode {
  if (!isNode(n)) return { kind: "unknown", text: "", parts: [] };
  const parts = (...list: unknown[]) => list.filter(isNode).map(treeOf);
  switch (n.type) {
    case "aggregation": {
      const by = texts(n.grouping);
      const text = `${word(n.op)}${by.length || n.without ? ` ${n.without ? "without" : "by"} (${by.join(", ")})` : ""}`;
      return { kind: n.type, text, parts: parts(n.param, n.expr) };
    }
    case "binaryExpr":
      return {
        kind: n.type,
        text: `${word(n.op)}${n.bool ? " bool" : ""}${matching(n.matching)}`,
        parts: parts(n.lhs, n.rhs),
      };
    case "call":
      return {
        kind: n.type,
        text: `${word((n.func as { name?: string } | undefined)?.name)}()`,
        parts: parts(...(Array.isArray(n.args) ? (n.args as unknown[]) : [])),
      };
    case "matrixSelector":
      return { kind: n.type, text: `${selector(n)}[${millis(n.range)}]${modifiers(n)}`, parts: [] };
    case "vectorSelector":
      return { kind: n.type, text: selector(n) + modifiers(n), parts: [] };
    case "subquery":
      return {
        kind: n.type,
        text: `[${millis(n.range)}:${millis(n.step)}]${modifiers(n)}`,
        parts: parts(n.expr),
      };
    case "numberLiteral":
      return { kind: n.type, text: word(n.val), parts: [] };
    case "stringLiteral":
      return { kind: n.type, text: JSON.stringify(word(n.val)), parts: [] };
    case "unaryExpr":
      return { kind: n.type, text: word(n.op), parts: parts(n.expr) };
    case "parenExpr":
      return { kind: n.type, text: "( )", parts: parts(n.expr) };
    default:
      return { kind: n.type, text: "", parts: parts(n.expr) };
  }
}
