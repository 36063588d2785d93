import { isMap, isScalar, isSeq, LineCounter, parseDocument, stringify, type Node, type Scalar } from "yaml";
import type { Json, JsonObject } from "../api/types";

/** A fault at a line of a text, counted from one; 0 when it belongs to no line. */
export interface Mark {
  line: number;
  message: string;
}

export interface YamlDoc {
  /** The value with every scalar as the text that it is written as; undefined when there are faults. */
  value: Json | undefined;
  faults: Mark[];
  /** line finds where a field like "groups[0].rules[1].expr" stands, or what of it there is. */
  line: (field: string) => number;
}

/** fieldPath splits "groups[0].rules[1].expr" into its steps. */
export function fieldPath(field: string): (string | number)[] {
  return [...field.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map((m) =>
    m[1] !== undefined ? Number(m[1]) : (m[2] ?? ""),
  );
}

const ALIASED = /(^|\s)[&*]\w|<<:/m;

// An empty value is nothing, and not an empty text, unless it is quoted.
const empty = (v: Scalar) => v.value === "" && (v.type === "PLAIN" || v.type === undefined);

function plain(v: unknown): Json {
  if (isMap(v)) {
    const out: JsonObject = {};
    for (const p of v.items) {
      const k = isScalar(p.key) ? String(p.key.value) : "";
      out[k] = plain(p.value);
    }
    return out;
  }
  if (isSeq(v)) return v.items.map(plain);
  if (isScalar(v)) return empty(v) ? null : String(v.value);
  return null;
}

/**
 * readYaml reads one document. Numbers and words like "yes" stay texts, since
 * that is what they are in labels and expressions; who reads the value knows
 * which fields are numbers.
 */
export function readYaml(text: string): YamlDoc {
  const lines = new LineCounter();
  const doc = parseDocument(text, {
    schema: "failsafe",
    merge: true,
    lineCounter: lines,
    prettyErrors: false,
  });
  const faults: Mark[] = doc.errors.map((e) => ({
    line: lines.linePos(e.pos[0]).line,
    message: e.message,
  }));
  const at = (n: unknown): number => {
    const range = (n as Node | null)?.range;
    return range ? lines.linePos(range[0]).line : 0;
  };
  const line = (field: string): number => {
    let node: unknown = doc.contents;
    let found = 0;
    for (const step of fieldPath(field)) {
      if (isMap(node)) {
        const pair = node.items.find((p) => isScalar(p.key) && p.key.value === step);
        if (!pair) break;
        found = at(pair.key) || found;
        node = pair.value;
      } else if (isSeq(node) && typeof step === "number") {
        const item: unknown = node.items[step];
        if (item === undefined) break;
        found = at(item) || found;
        node = item;
      } else break;
    }
    return found;
  };
  let value: Json | undefined;
  if (!faults.length) {
    // Aliases and merges are resolved by the reader; without them the tree keeps what was quoted.
    try {
      value = ALIASED.test(text) ? (doc.toJS({ maxAliasCount: 1000 }) as Json) : plain(doc.contents);
    } catch (e) {
      faults.push({ line: 0, message: e instanceof Error ? e.message : String(e) });
    }
  }
  return { value, faults, line };
}

// In these every value is a text, whatever it looks like: version: 1.10.
const TEXT_PARTS = new Set([
  "labels",
  "params",
  "http_headers",
  "external_labels",
  "node_meta",
  "annotations",
]);
const TEXT_KEYS = new Set(["replacement", "regex", "separator"]);
const WORDS: Record<string, boolean> = Object.fromEntries([
  ...["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"].map((w) => [w, true]),
  ...["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"].map((w) => [w, false]),
]);

function typed(v: unknown, asText: boolean): Json {
  if (isMap(v)) {
    const out: JsonObject = {};
    for (const p of v.items) {
      const k = isScalar(p.key) ? String(p.key.value) : "";
      out[k] = typed(p.value, asText || (TEXT_PARTS.has(k) && !isScalar(p.value)) || TEXT_KEYS.has(k));
    }
    return out;
  }
  if (isSeq(v)) return v.items.map((x) => typed(x, asText));
  if (!isScalar(v)) return null;
  const text = String(v.value);
  if (v.type !== "PLAIN" && v.type !== undefined) return text;
  if (text === "" || text === "null" || text === "~") return null;
  if (asText) return text;
  if (text in WORDS) return WORDS[text] ?? null;
  return /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text) ? Number(text) : text;
}

/**
 * typedYaml reads one document with numbers and truth values as YAML 1.1 has
 * them, which is Prometheus' dialect; undefined when it is faulty or refers to
 * other parts of itself.
 */
export function typedYaml(text: string): Json | undefined {
  const doc = parseDocument(text, { schema: "failsafe", prettyErrors: false });
  return doc.errors.length || ALIASED.test(text) ? undefined : typed(doc.contents, false);
}

/** writeYaml writes JSON as YAML; texts of several lines become blocks. */
export function writeYaml(v: Json): string {
  return stringify(v, { lineWidth: 0, aliasDuplicateObjects: false });
}
