import type { Firing, RuleTrial } from "../api/rules";

/** A stretch in which an alert would have fired, as shares of the whole time. */
export interface Stretch {
  x: number;
  w: number;
  from: number;
  to: number;
  /** It would still fire at the end. */
  open: boolean;
  earlier: boolean;
}
export interface Track {
  key: string;
  labels: Record<string, string>;
  stretches: Stretch[];
  seconds: number;
}

/** labelKey is the same for the same labels, in whatever order they come. */
export const labelKey = (labels: Record<string, string>) =>
  Object.entries(labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, v]) => `${k}=${v}`)
    .join(",");

/** tracks puts the firings of one set of labels into one row, the longest first. */
export function tracks(firings: Firing[], from: string, to: string): Track[] {
  const a = Date.parse(from);
  const b = Date.parse(to);
  const whole = Math.max(1, b - a);
  const rows = new Map<string, Track>();
  for (const f of firings) {
    const key = labelKey(f.labels);
    let row = rows.get(key);
    if (!row) rows.set(key, (row = { key, labels: f.labels, stretches: [], seconds: 0 }));
    const start = Math.max(a, Date.parse(f.fired_at));
    const open = !f.resolved_at;
    const end = Math.max(start, Math.min(b, f.resolved_at ? Date.parse(f.resolved_at) : b));
    row.seconds += (end - start) / 1000;
    row.stretches.push({
      x: (start - a) / whole,
      w: (end - start) / whole,
      from: start,
      to: end,
      open,
      earlier: f.earlier === true,
    });
  }
  return [...rows.values()].sort((x, y) => y.seconds - x.seconds || (x.key < y.key ? -1 : 1));
}

/** summary counts what a rule would have done. */
export function summary(r: RuleTrial, from: string, to: string) {
  const list = tracks(r.firings ?? [], from, to);
  return {
    firings: r.firings?.length ?? 0,
    alerts: list.length,
    seconds: list.reduce((s, x) => s + x.seconds, 0),
  };
}

/** sharedLabels are those that all sets have in common; they are told once. */
export function sharedLabels(list: Record<string, string>[]): Record<string, string> {
  const [first = {}, ...rest] = list;
  return Object.fromEntries(Object.entries(first).filter(([k, v]) => rest.every((l) => l[k] === v)));
}

/** ticks are the midnights, or full hours of a short span, between two times. */
export function ticks(from: string, to: string): { x: number; at: number; day: boolean }[] {
  const a = Date.parse(from);
  const b = Date.parse(to);
  const hour = 3_600_000;
  const days = (b - a) / (24 * hour);
  const every = days > 14 ? 5 * 24 : days > 3 ? 24 : days > 1 ? 12 : days > 0.4 ? 4 : 1;
  const out: { x: number; at: number; day: boolean }[] = [];
  const d = new Date(a);
  d.setHours(0, 0, 0, 0);
  for (let t = d.getTime(); t < b && out.length < 100;) {
    if (t > a) out.push({ x: (t - a) / (b - a), at: t, day: every >= 24 });
    const next = new Date(t);
    // Days of 23 and 25 hours keep their midnight.
    if (every >= 24) next.setDate(next.getDate() + every / 24);
    else next.setTime(t + every * hour);
    t = next.getTime();
  }
  return out;
}
