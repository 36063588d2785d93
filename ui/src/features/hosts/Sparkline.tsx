import { memo } from "react";

const W = 90;
const H = 24;

/** sparkPath is a line over shares from 0 to 1; gaps are left open. */
export function sparkPath(v: number[], w = W, h = H): string {
  const dx = w / Math.max(1, v.length - 1);
  let out = "";
  let open = false;
  v.forEach((y, i) => {
    if (!Number.isFinite(y)) {
      open = false;
      return;
    }
    const at = `${(i * dx).toFixed(1)} ${(h - 1 - Math.min(1, Math.max(0, y)) * (h - 2)).toFixed(1)}`;
    // A point without neighbours is drawn as a dot.
    out += open ? `L${at}` : `M${at}${Number.isFinite(v[i + 1] ?? NaN) ? "" : "h.1"}`;
    open = true;
  });
  return out;
}

/** Sparkline is the processor time of the last hour; its label says the same in words. */
export const Sparkline = memo(function Sparkline({ values, label }: { values: number[]; label: string }) {
  return (
    <svg
      className="spark"
      role="img"
      aria-label={label}
      width="100%"
      height={H}
      viewBox={`0 0 ${W} ${H}`}
      preserveAspectRatio="none"
    >
      <path d={sparkPath(values)} vectorEffect="non-scaling-stroke" />
    </svg>
  );
});
