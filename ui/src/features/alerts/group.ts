import type { Alert } from "../../api/types";

export interface AlertGroup {
  key: string;
  alerts: Alert[];
  /** Labels that all alerts of the group have in common. */
  shared: Record<string, string>;
}

const RANK: Record<string, number> = { critical: 0, warning: 1, info: 2 };
export const rank = (a: Alert) => RANK[a.labels.severity ?? ""] ?? 3;

/** groupAlerts puts alerts with the same value of a label together, the worst first. */
export function groupAlerts(alerts: Alert[], by: string): AlertGroup[] {
  const groups = new Map<string, Alert[]>();
  for (const a of alerts) {
    const key = by ? (a.labels[by] ?? "") : "";
    groups.set(key, [...(groups.get(key) ?? []), a]);
  }
  return [...groups]
    .map(([key, list]) => {
      const sorted = list.sort((a, b) => rank(a) - rank(b) || b.starts_at.localeCompare(a.starts_at));
      const first = sorted[0]?.labels ?? {};
      const shared = Object.fromEntries(
        Object.entries(first).filter(([k, v]) => sorted.every((a) => a.labels[k] === v)),
      );
      return { key, alerts: sorted, shared };
    })
    .sort(
      (a, b) =>
        Math.min(...a.alerts.map(rank)) - Math.min(...b.alerts.map(rank)) || a.key.localeCompare(b.key),
    );
}
