import type { RuleChange, SelfSettings } from "../../api/cluster";

/** What is kept of the form: only what differs from the defaults. */

const filled = <T extends object>(o: T | undefined): T | undefined => {
  const rest = Object.fromEntries(
    Object.entries(o ?? {}).filter(([, v]) => v !== "" && v !== undefined && v !== false),
  ) as T;
  return Object.keys(rest).length ? rest : undefined;
};

/** changeRule returns the settings with another change of one rule. */
export const changeRule = (s: SelfSettings, name: string, change: RuleChange): SelfSettings => ({
  ...s,
  rules: { ...s.rules, [name]: change },
});

/** tidy leaves out what is empty; a threshold becomes a number, and text that is none stays for the server to name. */
export function tidy(s: SelfSettings): SelfSettings {
  const rules: Record<string, RuleChange> = {};
  for (const [name, c] of Object.entries(s.rules ?? {}).sort(([a], [b]) => a.localeCompare(b))) {
    const n = Number(c.threshold);
    const kept = filled({
      ...c,
      threshold:
        typeof c.threshold === "string" && c.threshold !== "" && Number.isFinite(n) ? n : c.threshold,
    } as RuleChange);
    if (kept) rules[name] = kept;
  }
  const out: SelfSettings = {};
  if (Object.keys(rules).length) out.rules = rules;
  const dead = filled(s.dead_man);
  const canary = filled(s.canary);
  if (dead) out.dead_man = dead;
  if (canary) out.canary = canary;
  return out;
}
