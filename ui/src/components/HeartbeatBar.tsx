import { useMemo, useRef, useState } from "react";
import type { Bar, BarStatus } from "../api/types";
import { percent, span } from "../i18n/format";
import { useT } from "../i18n/i18n";
import { barIndex, barPaths, BAR_GAP, BAR_H, BAR_W, downSeconds, outages } from "../lib/bars";

interface Props {
  bars: Bar[];
  uptime?: number | null | undefined;
  /** label says what time the i-th beat stands for. */
  when?: (i: number) => string;
  height?: number;
  focusable?: boolean;
}

/** HeartbeatBar shows what happened lately: one path per state, whatever the number of beats. */
export function HeartbeatBar({ bars, uptime, when, height = 20, focusable = false }: Props) {
  const { t } = useT();
  const paths = useMemo(() => Object.entries(barPaths(bars)) as [BarStatus, string][], [bars]);
  const ref = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState<number | null>(null);
  const n = bars.length;
  if (!n) return <div className="bars-empty" />;
  const o = outages(bars);
  const label = t("bars.label", {
    uptime: percent(uptime),
    outages: t("bars.outages", { n: o }),
    down: span(downSeconds(bars)),
  });
  const beat = at === null ? undefined : bars[at];
  const w = n * (BAR_W + BAR_GAP) - BAR_GAP;
  const move = (x: number) => {
    const r = ref.current?.getBoundingClientRect();
    if (r) setAt(barIndex((x - r.left) / r.width, n));
  };
  return (
    <div
      ref={ref}
      className="bars"
      role="img"
      aria-label={label}
      // Arrow keys read single beats; the label sums them up.
      {...(focusable
        ? {
            tabIndex: 0,
            onKeyDown: (e: React.KeyboardEvent) => {
              if (e.key === "ArrowLeft" || e.key === "ArrowRight") {
                e.preventDefault();
                setAt((i) => Math.max(0, Math.min(n - 1, (i ?? n) + (e.key === "ArrowLeft" ? -1 : 1))));
              }
            },
            onBlur: () => setAt(null),
          }
        : {})}
      onMouseMove={(e) => move(e.clientX)}
      onMouseLeave={() => setAt(null)}
    >
      <svg
        viewBox={`0 0 ${w} ${BAR_H}`}
        preserveAspectRatio="none"
        height={height}
        width="100%"
        aria-hidden="true"
      >
        {paths.map(([s, d]) => (
          <path key={s} className={`bar-${s}`} d={d} />
        ))}
      </svg>
      {beat && at !== null && (
        <div
          className="tip"
          style={at > n / 2 ? { right: `${100 - ((at + 1) / n) * 100}%` } : { left: `${(at / n) * 100}%` }}
        >
          <strong>{t(`status.${beat.s}`)}</strong>
          {when && <span>{when(at)}</span>}
          {!!beat.down && <span>{t("bars.down", { span: span(beat.down) })}</span>}
        </div>
      )}
    </div>
  );
}
