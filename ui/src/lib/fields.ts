import type { Field, Json, JsonObject } from "../api/types";

/** The form of a kind's block: fields with dotted names read and write one JSON object. */

export const REDACTED = "<redacted>";

const isObject = (v: unknown): v is JsonObject => typeof v === "object" && v !== null && !Array.isArray(v);

/** getPath reads "basic_auth.password" out of an object. */
export function getPath(obj: JsonObject | undefined, path: string): Json | undefined {
  let v: Json | undefined = obj;
  for (const part of path.split(".")) {
    if (!isObject(v)) return undefined;
    v = v[part];
  }
  return v;
}

/** setPath returns a copy with the value at the path; undefined removes it, and objects that become empty with it. */
export function setPath(obj: JsonObject | undefined, path: string, value: Json | undefined): JsonObject {
  const [head = "", ...rest] = path.split(".");
  const copy: JsonObject = { ...obj };
  let v = value;
  if (rest.length) {
    const inner = copy[head];
    const next = setPath(isObject(inner) ? inner : {}, rest.join("."), value);
    v = Object.keys(next).length ? next : undefined;
  }
  if (v === undefined) {
    return Object.fromEntries(Object.entries(copy).filter(([k]) => k !== head));
  }
  copy[head] = v;
  return copy;
}

/** formFields leaves out objects whose parts are fields themselves. */
export function formFields(fields: Field[]): Field[] {
  return fields.filter((f) => f.type !== "object" || !fields.some((o) => o.name.startsWith(`${f.name}.`)));
}

/** fromText turns what was typed into the field's JSON; text that is no number stays text, for the server to name. */
export function fromText(type: Field["type"], text: string): Json | undefined {
  if (text === "") return undefined;
  if (type === "int" || type === "float") {
    const n = Number(text);
    return text.trim() !== "" && Number.isFinite(n) ? n : text;
  }
  return text;
}

/** toText is the reverse, for inputs. */
export function toText(v: Json | undefined): string {
  if (v === undefined || v === null) return "";
  return typeof v === "object" ? JSON.stringify(v) : String(v);
}

/** structured says that a list or map holds more than plain texts and needs the JSON editor. */
export function structured(v: Json | undefined): boolean {
  if (v === undefined || v === null) return false;
  if (Array.isArray(v)) return v.some((x) => typeof x === "object" && x !== null);
  return isObject(v) ? Object.values(v).some((x) => typeof x === "object" && x !== null) : true;
}

/** listItems reads a list field; one text counts as a list of one. */
export function listItems(v: Json | undefined): string[] {
  if (v === undefined || v === null) return [];
  return Array.isArray(v) ? v.map(toText) : [toText(v)];
}

/** errorFor finds the message for a field: its own, or one of its parts ("http.expect_status[0]"). */
export function errorFor(errors: Record<string, string>, path: string): string | undefined {
  if (errors[path]) return errors[path];
  const parts = Object.entries(errors).filter(([k]) => k.startsWith(`${path}[`) || k.startsWith(`${path}.`));
  return parts.length
    ? parts.map(([k, m]) => `${k.slice(path.length).replace(/^\./, "")}: ${m}`).join("; ")
    : undefined;
}

/** orphans are the errors that no field of the form shows. */
export function orphans(errors: Record<string, string>, shown: string[]): [string, string][] {
  return Object.entries(errors).filter(
    ([k]) => !shown.some((p) => k === p || k.startsWith(`${p}[`) || k.startsWith(`${p}.`)),
  );
}

/** A record from the API minus what the server adds, as it is written. */
export function specOf(record: object): JsonObject {
  const drop = new Set(["id", "revision", "created_at", "updated_at", "state", "bars", "uptime"]);
  return Object.fromEntries(Object.entries(record).filter(([k]) => !drop.has(k))) as JsonObject;
}
