import { useElementSize } from "@mantine/hooks";
import { useMemo, useState } from "react";
import { useLocation } from "wouter";
import { useFleet } from "../../api/checks";
import type { Status } from "../../api/types";
import { Faces } from "../../components/faces";
import { sentence, useT } from "../../i18n/i18n";
import { cellAt, fleetLayout, fleetPaths } from "./fleet";

/** FleetMap shows every check as one cell: one path per state, thousands of cells stay light. */
export function FleetMap() {
  const { t } = useT();
  const [, go] = useLocation();
  const query = useFleet();
  const { ref, width } = useElementSize<HTMLDivElement>();
  const checks = useMemo(() => query.data?.items ?? [], [query.data]);
  const [at, setAt] = useState<number | null>(null);
  const layout = fleetLayout(checks.length, width || 600);
  const paths = useMemo(
    () =>
      Object.entries(
        fleetPaths(
          checks.map((c) => c.state?.status ?? "pending"),
          layout,
        ),
      ) as [Status, string][],
    [checks, layout],
  );
  const over = at === null ? undefined : checks[at];
  const point = (e: React.MouseEvent) => {
    const r = e.currentTarget.getBoundingClientRect();
    return cellAt(e.clientX - r.left, e.clientY - r.top, layout, checks.length);
  };
  const col = at === null ? 0 : at % layout.columns;
  const tip = { top: at === null ? 0 : (Math.floor(at / layout.columns) + 1) * layout.pitch };
  return (
    <section className="card fleet-card" aria-labelledby="ov-fleet">
      <h2 id="ov-fleet">{t("overview.fleet")}</h2>
      <Faces query={query} rows={1} height={80}>
        <div ref={ref} className="fleet">
          {/* The list of checks offers the same by keyboard; this picture only sums it up. */}
          <svg
            width="100%"
            height={layout.height}
            role="img"
            aria-label={t("overview.fleet.label", { n: checks.length })}
            onMouseMove={(e) => setAt(point(e))}
            onMouseLeave={() => setAt(null)}
            onClick={(e) => {
              const i = point(e);
              const c = i === null ? undefined : checks[i];
              if (c) go(`/checks/${c.id}`);
            }}
          >
            {paths.map(([s, d]) => (
              <path key={s} d={d} className={`cell-${s}`} />
            ))}
          </svg>
          {over && (
            <div
              className="tip"
              style={
                col > layout.columns / 2
                  ? { right: width - (col + 1) * layout.pitch, ...tip }
                  : { left: col * layout.pitch, ...tip }
              }
            >
              <strong>{over.name}</strong>
              <span>{t(`status.${over.state?.status ?? "pending"}`)}</span>
              <span>{sentence(over.state?.message ?? "")}</span>
            </div>
          )}
        </div>
      </Faces>
    </section>
  );
}
