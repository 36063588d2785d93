import type { Json, JsonObject } from "../../api/types";
import { readYaml, writeYaml } from "../../lib/yamlDoc";

/** What the simple form knows of a scrape_config; all else is written as YAML. */
export interface Simple {
  targets: string[];
  labels: Record<string, string>;
  scheme: string;
  metrics_path: string;
  scrape_interval: string;
  scrape_timeout: string;
}

const isObject = (v: unknown): v is JsonObject => typeof v === "object" && v !== null && !Array.isArray(v);
const TEXTS = ["scheme", "metrics_path", "scrape_interval", "scrape_timeout"] as const;

/** FIRST is the order in which people write a scrape_config. */
const FIRST = [
  "job_name",
  "scrape_interval",
  "scrape_timeout",
  "scheme",
  "metrics_path",
  "params",
  "static_configs",
];

export const emptySimple = (): Simple => ({
  targets: [],
  labels: {},
  scheme: "",
  metrics_path: "",
  scrape_interval: "",
  scrape_timeout: "",
});

/** toSimple reads a configuration into the form; null when the form would lose something. */
export function toSimple(config: Json | undefined): Simple | null {
  if (config === undefined || config === null) return emptySimple();
  if (!isObject(config)) return null;
  const known = new Set<string>([...TEXTS, "static_configs"]);
  if (Object.keys(config).some((k) => !known.has(k))) return null;
  const out = emptySimple();
  for (const k of TEXTS) {
    const v = config[k];
    if (v === undefined || v === null) continue;
    if (typeof v !== "string") return null;
    out[k] = v;
  }
  const list = config.static_configs ?? [];
  if (!Array.isArray(list) || list.length > 1) return null;
  const one = list[0];
  if (one === undefined) return out;
  if (!isObject(one) || Object.keys(one).some((k) => k !== "targets" && k !== "labels")) return null;
  const targets = one.targets ?? [];
  const labels = one.labels ?? {};
  if (!Array.isArray(targets) || !targets.every((x) => typeof x === "string")) return null;
  if (!isObject(labels) || !Object.values(labels).every((x) => typeof x === "string")) return null;
  return { ...out, targets: targets as string[], labels: labels as Record<string, string> };
}

/** fromSimple is the reverse. */
export function fromSimple(s: Simple): JsonObject {
  const out: JsonObject = {};
  for (const k of TEXTS) if (s[k].trim()) out[k] = s[k].trim();
  out.static_configs = [
    { targets: s.targets, ...(Object.keys(s.labels).length ? { labels: s.labels } : {}) },
  ];
  return out;
}

/** configYaml writes a configuration the way people do. */
export function configYaml(config: Json | undefined): string {
  if (!isObject(config)) return "";
  const place = (k: string) => (FIRST.includes(k) ? FIRST.indexOf(k) : FIRST.length);
  return writeYaml(
    Object.fromEntries(Object.entries(config).sort(([a], [b]) => place(a) - place(b) || (a < b ? -1 : 1))),
  );
}

/** simpleOf reads YAML into the form, if the form can hold it. */
export function simpleOf(text: string): Simple | null {
  const doc = readYaml(text);
  return doc.faults.length ? null : toSimple(doc.value ?? undefined);
}

/** unwrap takes the one entry out of "scrape_configs:" or a list, as it is copied from a prometheus.yml. */
export function unwrap(text: string): string {
  const v = readYaml(text).value;
  const list = isObject(v) && Object.keys(v).length === 1 ? v.scrape_configs : v;
  return Array.isArray(list) && list.length === 1 && isObject(list[0]) ? configYaml(list[0]) : text;
}

/** about says in a few words where a job has its targets from. */
export function about(config: Json): { targets: number; discovery: string[] } {
  if (!isObject(config)) return { targets: 0, discovery: [] };
  const list = config.static_configs;
  let targets = 0;
  if (Array.isArray(list))
    for (const g of list) if (isObject(g) && Array.isArray(g.targets)) targets += g.targets.length;
  return {
    targets,
    discovery: Object.keys(config)
      .filter((k) => k.endsWith("_sd_configs"))
      .map((k) => k.replace(/_sd_configs$/, "")),
  };
}
