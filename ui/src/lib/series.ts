import type { PromSeries } from "../api/types";

/** align brings series onto one axis of time, as uPlot wants them: [times, values, values, …]. */
export function align(series: PromSeries[], start: number, end: number, step: number): (number | null)[][] {
  const n = Math.max(0, Math.floor((end - start) / step + 1e-9)) + 1;
  const xs = Array.from({ length: n }, (_, i) => start + i * step);
  const rows = series.map((s) => {
    const ys = new Array<number | null>(n).fill(null);
    for (const [t, v] of s.values ?? []) {
      const i = Math.round((t - start) / step);
      if (i >= 0 && i < n) ys[i] = parseValue(v);
    }
    return ys;
  });
  return [xs, ...rows];
}

function parseValue(v: string): number | null {
  if (v === "+Inf" || v === "-Inf" || v === "NaN") return null;
  return Number(v);
}

/** stack adds rows up from the first to the last; gaps count as nothing. */
export function stack(data: (number | null)[][]): (number | null)[][] {
  const [xs = [], ...rows] = data;
  const sum = new Array<number>(xs.length).fill(0);
  const out = rows.map((r) =>
    r.map((v, i) => {
      if (v === null) return null;
      sum[i] = (sum[i] ?? 0) + v;
      return sum[i] ?? null;
    }),
  );
  return [xs, ...out];
}

/** seriesName writes a metric the way PromQL does. */
export function seriesName(metric: Record<string, string>): string {
  const { __name__: name = "", ...labels } = metric;
  const body = Object.entries(labels)
    .map(([k, v]) => `${k}=${JSON.stringify(v)}`)
    .join(", ");
  return body ? `${name}{${body}}` : name || "{}";
}
