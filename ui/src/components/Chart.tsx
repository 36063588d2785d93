import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { t } from "../i18n/i18n";
import { lineColor, lineDash } from "../lib/colors";

export interface Line {
  name: string;
  color?: string;
}
interface Props {
  data: (number | null)[][];
  lines: Line[];
  height?: number;
  format: (v: number) => string;
  stacked?: boolean;
  /** The axis may leave zero out where that would flatten the lines. */
  free?: boolean;
  label: string;
  /** onZoom gets the selected span in Unix seconds. */
  onZoom?: (from: number, to: number) => void;
  onReset?: () => void;
}

const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** yRange is the span of the axis: with zero, or close around lines that lie far away from it. */
export function yRange(min: number | null, max: number | null, free: boolean): [number, number] {
  const low = min ?? 0;
  const high = max ?? 0;
  const gap = high - low;
  if (free && gap > 0 && (low > 0 ? gap < low : high < 0 && gap < -high))
    return [low - gap * 0.08, high + gap * 0.08];
  const top = Math.max(0, high) * 1.08;
  const bottom = Math.min(0, low) * 1.08;
  return top === bottom ? [0, 1] : [bottom, top];
}

/** Chart draws lines over time with uPlot; the table beside it is for those who cannot see it. */
export default function Chart({
  data,
  lines,
  height = 240,
  format,
  stacked = false,
  free = false,
  label,
  onZoom,
  onReset,
}: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const calls = useRef({ onZoom, onReset, format });
  useEffect(() => {
    calls.current = { onZoom, onReset, format };
  });
  const shape = JSON.stringify([lines, stacked, free]);

  useEffect(() => {
    const el = host.current;
    if (!el) return;
    const build = () => {
      plot.current?.destroy();
      const axis: uPlot.Axis = {
        stroke: css("--muted"),
        grid: { stroke: css("--line"), width: 1 },
        ticks: { stroke: css("--line"), width: 1 },
        font: "12px system-ui, sans-serif",
      };
      const f = (v: number | null) => (v === null ? "–" : calls.current.format(v));
      plot.current = new uPlot(
        {
          width: el.clientWidth || 600,
          height,
          cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
          select: { show: true, left: 0, top: 0, width: 0, height: 0 },
          legend: { live: true },
          scales: { y: { range: (_u, min, max) => yRange(min, max, free) } },
          axes: [
            {
              ...axis,
              values: [
                [86400, "{YYYY}-{MM}-{DD}", null, null, null, null, null, null, 1],
                [3600, "{HH}:{mm}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
                [60, "{HH}:{mm}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
                [1, "{HH}:{mm}:{ss}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
              ],
            },
            { ...axis, size: 64, values: (_u, vs) => vs.map(f) },
          ],
          series: [
            {
              label: t("chart.time"),
              value: (_u, v: number | null) =>
                v === null ? "–" : new Date(v * 1000).toLocaleString("sv-SE"),
            },
            ...lines.map((l, i) => {
              const color = l.color ?? lineColor(i);
              const dash = stacked ? undefined : lineDash(i);
              return {
                label: l.name,
                stroke: color,
                width: 1.6,
                ...(dash ? { dash } : {}),
                ...(stacked || lines.length === 1 ? { fill: `${color}${stacked ? "55" : "22"}` } : {}),
                points: { show: false },
                value: (_u: uPlot, v: number | null) => f(v),
              };
            }),
          ],
          ...(stacked
            ? { bands: lines.slice(1).map((_, i) => ({ series: [i + 2, i + 1] as [number, number] })) }
            : {}),
          hooks: {
            setSelect: [
              (u) => {
                if (u.select.width > 8) {
                  calls.current.onZoom?.(
                    u.posToVal(u.select.left, "x"),
                    u.posToVal(u.select.left + u.select.width, "x"),
                  );
                }
                u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              },
            ],
          },
        },
        data as uPlot.AlignedData,
        el,
      );
      // A long legend scrolls, and by keyboard too.
      el.querySelector<HTMLElement>(".u-legend")?.setAttribute("tabindex", "0");
    };
    build();
    const size = new ResizeObserver(() => plot.current?.setSize({ width: el.clientWidth, height }));
    size.observe(el);
    const scheme = new MutationObserver(build);
    scheme.observe(document.documentElement, {
      attributes: true,
      attributeFilter: ["data-mantine-color-scheme"],
    });
    return () => {
      size.disconnect();
      scheme.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
    // The data is brought in by the effect below; only another shape builds anew.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape, height]);

  useEffect(() => {
    plot.current?.setData(data as uPlot.AlignedData);
  }, [data]);

  return (
    <div ref={host} className="chart" role="group" aria-label={label} onDoubleClick={() => onReset?.()} />
  );
}
