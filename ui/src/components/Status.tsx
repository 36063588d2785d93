import type { Status } from "../api/types";
import { useT } from "../i18n/i18n";

/** Each state has its own shape, so that nobody depends on colour. */
const SHAPES: Record<string, string> = {
  up: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM4.6 8.2l2.3 2.3 4.5-4.8",
  down: "M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1zM5.5 5.5l5 5M10.5 5.5l-5 5",
  degraded: "M8 1.2L15.3 14.5H.7zM8 6v4M8 12.2v.1",
  unknown: "M8 .6L15.4 8 8 15.4.600 8zM6.3 6.6c0-2.4 3.5-2.3 3.5-.2 0 1.3-1.8 1.4-1.8 2.9M8 11.5v.1",
  maintenance: "M1.5 1.5h13v13h-13zM5 8h6M8 5v6",
  paused: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM6.3 5.5v5M9.7 5.5v5",
  pending: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM5 8h.1M8 8h.1M11 8h.1",
};

export function StatusIcon({ status, size = 16 }: { status: Status; size?: number }) {
  const d = SHAPES[status] ?? SHAPES.pending ?? "";
  const cut = d.indexOf("zM") + 1;
  return (
    <svg className={`st st-${status}`} width={size} height={size} viewBox="0 0 16 16" aria-hidden="true">
      <path className="st-shape" d={d.slice(0, cut)} />
      <path className="st-sign" d={d.slice(cut)} />
    </svg>
  );
}

export function StatusPill({ status }: { status: Status }) {
  const { t } = useT();
  return (
    <span className={`pill pill-${status}`}>
      <StatusIcon status={status} size={14} />
      {t(`status.${status}`)}
    </span>
  );
}

export function SeverityPill({ severity }: { severity: string | undefined }) {
  const { t } = useT();
  const s = severity === "critical" || severity === "warning" ? severity : "info";
  return (
    <span className={`pill pill-${s === "critical" ? "down" : s === "warning" ? "degraded" : "info"}`}>
      <StatusIcon status={s === "critical" ? "down" : s === "warning" ? "degraded" : "pending"} size={14} />
      {t(`severity.${s}`)}
    </span>
  );
}
