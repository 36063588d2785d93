import type { Rule, RuleGroup, RuleSet, RuleStateName } from "../../api/rules";
import { language } from "../../i18n/i18n";
import { encodePanels } from "../../lib/exploreUrl";

/** ruleState is what a rule is called in the list: that it is broken comes first. */
export function ruleState(r: Rule): RuleStateName | "unknown" | "recording" {
  if (r.health === "err") return "broken";
  if (r.type === "recording") return r.health === "unknown" ? "unknown" : "recording";
  if (r.state === "firing" || r.state === "pending" || r.state === "inactive") return r.state;
  return "unknown";
}

/** byState counts the rules of a group by state. */
export function byState(rules: Rule[]): Partial<Record<ReturnType<typeof ruleState>, number>> {
  const out: Partial<Record<ReturnType<typeof ruleState>, number>> = {};
  for (const r of rules) {
    const s = ruleState(r);
    out[s] = (out[s] ?? 0) + 1;
  }
  return out;
}

/** matching are the rules that the filter asks for; of a group found by its own name it is all. */
export function matching(g: RuleGroup, q: string, states: string[]): Rule[] {
  const rules = g.rules ?? [];
  // A broken rule may go on firing: it is found as both.
  const ofState = states.length
    ? rules.filter((r) => states.includes(ruleState(r)) || states.includes(r.state ?? ""))
    : rules;
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return ofState;
  const text = (r: Rule) => `${r.name} ${r.expr} ${Object.values(r.labels ?? {}).join(" ")}`.toLowerCase();
  const found = ofState.filter((r) => words.every((w) => text(r).includes(w)));
  return found.length ? found : ofState;
}

/** annotations in the reader's language: "summary_zh" stands in for "summary" in Chinese, and is left out elsewhere. */
export function annotationsOf(
  a: Record<string, string> | null | undefined,
  lang = language(),
): [string, string][] {
  const all = a ?? {};
  const zh = lang === "zh-CN";
  return Object.entries(all)
    .filter(([k]) => !(k.endsWith("_zh") && k.slice(0, -3) in all))
    .map(([k, v]) => [k, zh ? (all[`${k}_zh`] ?? v) : v]);
}

/** exploreHref opens an expression in Explore. */
export const exploreHref = (expr: string, range = "1h") =>
  `/explore?${encodePanels([{ expr, tab: "graph", range, end: "", step: "" }]).toString()}`;

export const PACKS = ["checks", "hosts", "agents", "kubernetes", "panoptes"] as const;

/** packOf names the shipped pack whose groups a set holds, if it is one. */
export function packOf(groups: (string | undefined)[]): (typeof PACKS)[number] | undefined {
  return groups.length ? PACKS.find((p) => groups.every((g) => g?.startsWith(`${p}-`))) : undefined;
}

export const groupNames = (s: RuleSet) => (s.groups ?? []).map((g) => String(g.name ?? ""));

/** rulesOf counts the rules of a record. */
export const rulesOf = (s: RuleSet) =>
  (s.groups ?? []).reduce((n, g) => n + (Array.isArray(g.rules) ? g.rules.length : 0), 0);
