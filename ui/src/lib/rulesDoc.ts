import type { Json, JsonObject } from "../api/types";
import { readYaml, writeYaml, type Mark } from "./yamlDoc";

const isObject = (v: unknown): v is JsonObject => typeof v === "object" && v !== null && !Array.isArray(v);

/** RulesFile is a rule file of Prometheus as it is typed, with what the API takes of it. */
export interface RulesFile {
  groups: JsonObject[];
  faults: Mark[];
  line: (field: string) => number;
}

const number = (v: Json | undefined): Json | undefined =>
  typeof v === "string" && /^\d+$/.test(v) ? Number(v) : v;

/** without leaves out what is written without a value. */
const without = (o: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(o).filter(([, v]) => v !== null));

function group(g: JsonObject): JsonObject {
  const out = without(g);
  if (out.limit !== undefined) out.limit = number(out.limit) ?? null;
  if (Array.isArray(out.rules)) out.rules = out.rules.map((r) => (isObject(r) ? without(r) : r));
  return out;
}

/** readRules reads "groups:" of a rule file. */
export function readRules(text: string, noGroups: string): RulesFile {
  const doc = readYaml(text);
  if (doc.faults.length) return { groups: [], faults: doc.faults, line: doc.line };
  const v = doc.value;
  const groups = isObject(v) ? v.groups : undefined;
  if (!Array.isArray(groups) || !groups.every(isObject))
    return { groups: [], faults: [{ line: 1, message: noGroups }], line: doc.line };
  return { groups: groups.map(group), faults: [], line: doc.line };
}

/** writeRules is the reverse. */
export const writeRules = (groups: Json): string => writeYaml({ groups });

/** placed turns the faults of fields into faults at lines; what stands elsewhere is left to the form. */
export function placed(fields: Record<string, string>, line: (field: string) => number, prefix = ""): Mark[] {
  return Object.entries(fields)
    .filter(([k]) => k.startsWith(prefix))
    .map(([k, message]) => {
      const field = k.slice(prefix.length).replace(/^\./, "");
      return {
        line: line(field),
        message: message.includes(field) || !field ? message : `${field}: ${message}`,
      };
    })
    .sort((a, b) => a.line - b.line);
}

/** inYaml writes an expression behind "expr:", as a block when it could be read as anything else. */
const inYaml = (expr: string) =>
  /[\n:#'"`]|^[-?{[&*!|>%@]/.test(expr) ? `|-\n${expr.replace(/^/gm, " ".repeat(10))}` : expr;

/** template is what a new set of rules begins with. */
export const template = (expr: string): string => `groups:
  - name: example
    interval: 1m
    rules:
      - alert: Example
        expr: ${inYaml(expr)}
        for: 5m
        labels:
          severity: warning
        annotations:
          summary: "{{ $labels.instance }}: {{ $value }}"
`;
