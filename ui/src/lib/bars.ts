import type { Bar, BarStatus } from "../api/types";

export const BAR_W = 4;
export const BAR_GAP = 1;
export const BAR_H = 20;

/** A state differs from the others by height as well as by colour. */
const HEIGHT: Record<BarStatus, number> = {
  up: 14,
  degraded: 17,
  down: 20,
  unknown: 10,
  maintenance: 7,
  paused: 4,
  pending: 4,
  none: 2,
};

/** barPaths draws all beats of one state as one path, so that 2,000 rows stay light. */
export function barPaths(bars: Bar[]): Partial<Record<BarStatus, string>> {
  const out: Partial<Record<BarStatus, string>> = {};
  bars.forEach((b, i) => {
    const h = HEIGHT[b.s] ?? 2;
    out[b.s] = `${out[b.s] ?? ""}M${i * (BAR_W + BAR_GAP)} ${BAR_H - h}h${BAR_W}v${h}h-${BAR_W}z`;
  });
  return out;
}

/** barIndex is the beat under a position between 0 and 1. */
export const barIndex = (share: number, n: number) => Math.max(0, Math.min(n - 1, Math.floor(share * n)));

/** outages counts runs of beats that are down. */
export function outages(bars: Bar[]): number {
  return bars.reduce((n, b, i) => (b.s === "down" && bars[i - 1]?.s !== "down" ? n + 1 : n), 0);
}

/** downSeconds sums the time spent down. */
export const downSeconds = (bars: Bar[]) => bars.reduce((n, b) => n + (b.down ?? 0), 0);
