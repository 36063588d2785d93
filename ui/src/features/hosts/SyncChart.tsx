import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useT } from "../../i18n/i18n";
import { lineColor, lineDash } from "../../lib/colors";
import { stack } from "../../lib/series";
import { lastOf } from "./series";

export interface ChartLine {
  name: string;
  below: boolean;
}
interface Props {
  xs: number[];
  rows: (number | null)[][];
  lines: ChartLine[];
  range: [number, number];
  format: (v: number) => string;
  stacked?: boolean;
  /** The axis is parted at powers of two. */
  binary?: boolean;
  min?: number | undefined;
  cap?: number | undefined;
  height?: number;
  label: string;
  onZoom?: (from: number, to: number) => void;
  onReset?: () => void;
}

const BINARY = Array.from({ length: 52 }, (_, i) => 2 ** i);
const SYNC = "host";
const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Only where the pointer is goes from chart to chart, not what is dragged.
const moves = (type: string) => type === "mousemove" || type === "mouseleave";

/** scaleOf is the range of the axis: round the zero line, no flatter than min, no higher than cap. */
export function scaleOf(
  low: number | null,
  high: number | null,
  min: number | undefined,
  cap: number | undefined,
): [number, number] {
  let top = Math.max(high ?? 0, min ?? 0) * 1.06;
  if (cap !== undefined) top = Math.min(top, cap);
  const bottom = (low ?? 0) < 0 ? (low ?? 0) * 1.06 : 0;
  if (top <= 0 && bottom === 0) top = 1;
  return [bottom, top];
}

/** SyncChart draws lines over time; the charts of a page share the cursor, and the legend reads the values. */
export default function SyncChart({
  xs,
  rows,
  lines,
  range,
  format,
  stacked = false,
  binary = false,
  min,
  cap,
  height = 170,
  label,
  onZoom,
  onReset,
}: Props) {
  const { t } = useT();
  const host = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLUListElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const shape = JSON.stringify([lines, stacked, binary]);
  const data = useMemo(() => {
    const shown = rows.map((r, i) => {
      const l = lines[i];
      if (!l || hidden.has(l.name)) return r.map(() => null);
      return l.below ? r.map((v) => (v === null ? null : -v)) : r;
    });
    return stacked ? stack([xs, ...shown]) : [xs, ...shown];
  }, [xs, rows, lines, hidden, stacked]);
  const live = useRef({ rows, range, format, min, cap, onZoom, data });
  const paint = (i: number | null | undefined) => {
    legend.current?.querySelectorAll<HTMLElement>("[data-v]").forEach((el, n) => {
      const row = live.current.rows[n] ?? [];
      const v = i === null || i === undefined ? lastOf(row) : row[i];
      const text = v === null || v === undefined ? "–" : live.current.format(v);
      if (el.textContent !== text) el.textContent = text;
    });
  };
  useEffect(() => {
    live.current = { rows, range, format, min, cap, onZoom, data };
    paint(plot.current?.cursor.idx);
  });

  useEffect(() => {
    const el = host.current;
    if (!el) return;
    const build = () => {
      plot.current?.destroy();
      const axis: uPlot.Axis = {
        stroke: css("--muted"),
        grid: { stroke: css("--line"), width: 1 },
        ticks: { show: false },
        font: "11px system-ui, sans-serif",
      };
      plot.current = new uPlot(
        {
          width: el.clientWidth || 400,
          height,
          padding: [6, 8, 0, 0],
          cursor: {
            drag: { x: true, y: false, setScale: false },
            points: { size: 5 },
            sync: { key: SYNC, scales: ["x", null], filters: { pub: moves, sub: moves } },
          },
          legend: { show: false },
          scales: {
            x: { range: () => live.current.range },
            y: { range: (_u, low, high) => scaleOf(low, high, live.current.min, live.current.cap) },
          },
          axes: [
            {
              ...axis,
              size: 26,
              space: 60,
              values: [
                [86400, "{MM}-{DD}", null, null, null, null, null, null, 1],
                [3600, "{HH}:{mm}", null, null, null, null, null, null, 1],
                [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
                [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
              ],
            },
            {
              ...axis,
              size: 66,
              space: 34,
              ...(binary ? { incrs: BINARY } : {}),
              values: (_u, vs) => vs.map((v) => live.current.format(Math.abs(v))),
            },
          ],
          series: [
            {},
            ...lines.map((l, i) => {
              const color = lineColor(i);
              const dash = stacked ? undefined : lineDash(i);
              return {
                label: l.name,
                stroke: color,
                width: 1.4,
                ...(dash ? { dash } : {}),
                ...(stacked ? { fill: `${color}66` } : lines.length <= 2 ? { fill: `${color}1f` } : {}),
                points: { show: false },
              };
            }),
          ],
          ...(stacked
            ? { bands: lines.slice(1).map((_, i) => ({ series: [i + 2, i + 1] as [number, number] })) }
            : {}),
          hooks: {
            setCursor: [(u) => paint(u.cursor.idx)],
            setSelect: [
              (u) => {
                if (u.select.width > 8)
                  live.current.onZoom?.(
                    u.posToVal(u.select.left, "x"),
                    u.posToVal(u.select.left + u.select.width, "x"),
                  );
                u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              },
            ],
          },
        },
        live.current.data as uPlot.AlignedData,
        el,
      );
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
  }, [data, range]);

  const toggle = (name: string, only: boolean) => {
    const next = new Set(only ? lines.map((l) => l.name) : hidden);
    if (only) next.delete(name);
    else if (!next.delete(name)) next.add(name);
    // Nothing left, or the same alone again: everything is shown.
    const alone = only && hidden.size === lines.length - 1 && !hidden.has(name);
    setHidden(alone || next.size === lines.length ? new Set() : next);
  };
  return (
    <div role="group" aria-label={label}>
      <div ref={host} className="sync-chart" aria-hidden="true" onDoubleClick={() => onReset?.()} />
      <ul className="legend" ref={legend}>
        {lines.map((l, i) => (
          <li key={l.name}>
            <button
              type="button"
              aria-pressed={!hidden.has(l.name)}
              title={t("hosts.legend.help")}
              onClick={(e) => toggle(l.name, e.ctrlKey || e.metaKey || e.shiftKey)}
            >
              <svg width="14" height="8" aria-hidden="true">
                <line
                  x1="0"
                  x2="14"
                  y1="4"
                  y2="4"
                  stroke={lineColor(i)}
                  strokeWidth="3"
                  strokeDasharray={
                    stacked
                      ? undefined
                      : lineDash(i)
                          ?.map((d) => d / 2)
                          .join(" ")
                  }
                />
              </svg>
              <span className="ellipsis">{l.name}</span> <b data-v />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
