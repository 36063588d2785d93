import { lazy, Suspense, useMemo } from "react";
import type { Span } from "../../api/prom";
import type { PromData } from "../../api/types";
import { Skeleton } from "../../components/faces";
import { compact } from "../../i18n/format";
import { useT } from "../../i18n/i18n";
import { align, seriesName } from "../../lib/series";

const Chart = lazy(() => import("../../components/Chart"));
const MOST = 100;

export function ExploreGraph({
  data,
  span,
  onZoom,
  onReset,
}: {
  data: PromData;
  span: Span;
  onZoom: (from: number, to: number) => void;
  onReset: () => void;
}) {
  const { t } = useT();
  const { start, end, step } = span;
  const all = useMemo(() => (data.resultType === "matrix" ? data.result : []), [data]);
  const shown = useMemo(() => all.slice(0, MOST), [all]);
  const rows = useMemo(() => align(shown, start, end, step), [shown, start, end, step]);
  const lines = useMemo(() => shown.map((s) => ({ name: seriesName(s.metric) })), [shown]);
  if (!all.length) return <p className="muted nodata">{t("chart.nodata")}</p>;
  return (
    <Suspense fallback={<Skeleton rows={1} height={320} />}>
      {all.length > MOST && <p className="stale">{t("explore.toomany", { n: all.length, shown: MOST })}</p>}
      <Chart
        label={t("explore.chart.label", { n: shown.length })}
        height={320}
        data={rows}
        lines={lines}
        format={compact}
        free
        onZoom={onZoom}
        onReset={onReset}
      />
    </Suspense>
  );
}
