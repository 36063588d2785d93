import type { PromSeries } from "../../api/types";
import { promString } from "../../lib/matchers";
import { stepFor } from "../../lib/time";

/** Many expressions as one query, and what comes back as rows over one axis of time. */

const TAG = "_q";

/** union joins expressions into one query; what each answers carries its name. */
export const union = (exprs: [name: string, expr: string][]): string =>
  exprs.map(([n, e]) => `label_replace(${e}, "${TAG}", ${promString(n)}, "", "")`).join(" or ");

/** part sorts the answer of a union by the names of its expressions. */
export function part(result: PromSeries[]): Map<string, PromSeries[]> {
  const out = new Map<string, PromSeries[]>();
  for (const s of result) {
    const { [TAG]: name = "", ...metric } = s.metric;
    const list = out.get(name) ?? [];
    list.push({ ...s, metric });
    out.set(name, list);
  }
  return out;
}

/** A span in Unix seconds; end is null when it ends now. */
export interface Window {
  length: number;
  end: number | null;
}
export const LIVE_SPAN = 900;

/** isLive says that a window can be followed each second. */
export const isLive = (w: Window): boolean => w.end === null && w.length <= LIVE_SPAN;

/** stepOf is the distance of points in a window. */
export const stepOf = (w: Window, interval: number): number =>
  isLive(w) ? Math.max(1, Math.round(w.length / 300)) : stepFor(w.length * 1000, 240, Math.min(interval, 60));

/** How rates and gauges are asked for in a window. */
export interface Ways {
  rate: (metric: string, matchers?: string) => string;
  gauge: (metric: string, matchers?: string) => string;
  sel: (metric: string, matchers?: string) => string;
}

/**
 * ways writes expressions about one host. A live window takes the last two
 * values, so that a host that measures each second is seen each second; longer
 * windows take means over their step, so that no peak between two points is lost.
 */
export function ways(host: string, w: Window, interval: number): Ways {
  const step = stepOf(w, interval);
  const wide = Math.max(60, 4 * interval, step);
  const sel = (metric: string, matchers = "") =>
    `${metric}{host=${promString(host)}${matchers ? `,${matchers}` : ""}}`;
  return {
    sel,
    rate: (m, l) => `${isLive(w) ? "irate" : "rate"}(${sel(m, l)}[${wide}s])`,
    gauge: (m, l) =>
      step > interval * 2 && !isLive(w) ? `avg_over_time(${sel(m, l)}[${step}s])` : sel(m, l),
  };
}

interface Track {
  query: number;
  metric: Record<string, string>;
  base: (number | null)[];
  tail: (number | null)[];
}
/** What a panel knows: points each step, then each second since the last whole read. */
export interface Buffer {
  start: number;
  step: number;
  end: number;
  /** How many seconds after end the tail reaches. */
  tail: number;
  tracks: ReadonlyMap<string, Track>;
}

function value(v: string): number | null {
  const n = Number(v);
  return Number.isFinite(n) ? n : null;
}
const keyOf = (query: number, metric: Record<string, string>) =>
  `${query} ${JSON.stringify(Object.entries(metric).sort())}`;

/** base puts what was read for each query onto the grid from start to end. */
export function base(answers: PromSeries[][], start: number, end: number, step: number): Buffer {
  const n = Math.round((end - start) / step) + 1;
  const tracks = new Map<string, Track>();
  answers.forEach((list, query) => {
    for (const s of list) {
      const row = new Array<number | null>(n).fill(null);
      for (const [at, v] of s.values ?? []) {
        const i = Math.round((at - start) / step);
        if (i >= 0 && i < n) row[i] = value(v);
      }
      tracks.set(keyOf(query, s.metric), { query, metric: s.metric, base: row, tail: [] });
    }
  });
  return { start, step, end, tail: 0, tracks };
}

/** extend adds the seconds from `from` to `to`, over what is there already: late values replace early ones. */
export function extend(b: Buffer, answers: PromSeries[][], from: number, to: number): Buffer {
  const tail = Math.max(b.tail, to - b.end);
  const tracks = new Map<string, Track>();
  for (const [k, t] of b.tracks) {
    const row = Array.from({ length: tail }, (_, i) => (b.end + 1 + i >= from ? null : (t.tail[i] ?? null)));
    tracks.set(k, { ...t, tail: row });
  }
  answers.forEach((list, query) => {
    for (const s of list) {
      const k = keyOf(query, s.metric);
      let t = tracks.get(k);
      if (!t) {
        const n = Math.round((b.end - b.start) / b.step) + 1;
        t = {
          query,
          metric: s.metric,
          base: new Array<null>(n).fill(null),
          tail: new Array<null>(tail).fill(null),
        };
        tracks.set(k, t);
      }
      for (const [at, v] of s.values ?? []) {
        const i = Math.round(at) - b.end - 1;
        if (i >= 0 && i < tail) t.tail[i] = value(v);
      }
    }
  });
  return { ...b, tail, tracks };
}

export interface Row {
  query: number;
  metric: Record<string, string>;
  values: (number | null)[];
}
export interface Table {
  xs: number[];
  rows: Row[];
}

/** table lays a buffer out for drawing; what is before oldest is left out. */
export function table(b: Buffer, oldest: number): Table {
  const n = Math.round((b.end - b.start) / b.step) + 1;
  const skip = Math.min(n, Math.max(0, Math.ceil((oldest - b.start) / b.step)));
  const xs: number[] = [];
  for (let i = skip; i < n; i++) xs.push(b.start + i * b.step);
  for (let i = 0; i < b.tail; i++) xs.push(b.end + 1 + i);
  const rows = [...b.tracks.values()].map((t) => ({
    query: t.query,
    metric: t.metric,
    values: [...t.base.slice(skip), ...t.tail],
  }));
  return { xs, rows };
}

/** top keeps the rows with the largest values; the order of the rest stays. */
export function top(rows: Row[], n: number): Row[] {
  if (rows.length <= n) return rows;
  const mean = new Map(
    rows.map((r) => [r, r.values.reduce<number>((a, v) => a + Math.abs(v ?? 0), 0)] as const),
  );
  const keep = new Set([...rows].sort((a, b) => (mean.get(b) ?? 0) - (mean.get(a) ?? 0)).slice(0, n));
  return rows.filter((r) => keep.has(r));
}

/** lastOf is the newest value of a row within its last few points. */
export function lastOf(values: (number | null)[], reach = 6): number | null {
  for (let i = values.length - 1; i >= Math.max(0, values.length - reach); i--) {
    const v = values[i];
    if (v !== null && v !== undefined) return v;
  }
  return null;
}
