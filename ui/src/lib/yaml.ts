import type { Json } from "../api/types";

const plain = /^[\p{L}_/][\p{L}\p{N} _./:@()+-]*$/u;
const reserved = /^(true|false|null|yes|no|on|off|y|n|~)$/i;

function scalar(v: string | number | boolean | null): string {
  if (typeof v !== "string") return String(v);
  const safe = plain.test(v) && !reserved.test(v) && !/: |:$| $/.test(v);
  return safe ? v : JSON.stringify(v);
}

/** toYAML writes JSON as block YAML, for people to read and for `panoptes apply`. */
export function toYAML(v: Json, indent = 0): string {
  const pad = "  ".repeat(indent);
  if (Array.isArray(v)) {
    if (!v.length) return `${pad}[]\n`;
    return v
      .map((x) => {
        const inner = toYAML(x, indent + 1);
        return nested(x) ? `${pad}- ${inner.slice(pad.length + 2)}` : `${pad}- ${inner.trimStart()}`;
      })
      .join("");
  }
  if (typeof v === "object" && v !== null) {
    const entries = Object.entries(v);
    if (!entries.length) return `${pad}{}\n`;
    return entries
      .map(([k, x]) =>
        nested(x)
          ? `${pad}${scalar(k)}:\n${toYAML(x, indent + 1)}`
          : `${pad}${scalar(k)}: ${toYAML(x).trimStart()}`,
      )
      .join("");
  }
  return `${pad}${scalar(v)}\n`;
}

const nested = (v: Json) =>
  typeof v === "object" && v !== null && (Array.isArray(v) ? v.length > 0 : Object.keys(v).length > 0);
