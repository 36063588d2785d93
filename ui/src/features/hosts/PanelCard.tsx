import { lazy, Suspense, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { Link } from "wouter";
import { Failure, Skeleton } from "../../components/faces";
import { Icon } from "../../components/icons";
import { useT, type Key } from "../../i18n/i18n";
import { encodePanels } from "../../lib/exploreUrl";
import type { Feed } from "./feed";
import { arrange, lineName, type Panel } from "./panels";
import { iec } from "./view";
import { top, ways, type Window } from "./series";

const SyncChart = lazy(() => import("./SyncChart"));
const HEIGHT = 170;

interface Props {
  panel: Panel;
  feed: Feed;
  host: string;
  interval: number;
  window: Window;
  onZoom: (from: number, to: number) => void;
  onReset: () => void;
}

/** PanelCard is one chart; it asks for its data while it is in view. */
export function PanelCard({ panel: p, feed, host, interval, window: win, onZoom, onReset }: Props) {
  const { t } = useT();
  const ref = useRef<HTMLElement>(null);
  useEffect(() => {
    const el = ref.current;
    if (!el) return;
    const wanted = {
      id: p.id,
      exprs: (w: Window) => {
        const how = ways(host, w, interval);
        return p.queries.map((q) => q.expr(how));
      },
    };
    const look = new IntersectionObserver(
      (seen) => (seen[seen.length - 1]?.isIntersecting ? feed.show(wanted) : feed.hide(p.id)),
      { rootMargin: "250px" },
    );
    look.observe(el);
    return () => {
      look.disconnect();
      feed.hide(p.id);
    };
  }, [feed, p, host, interval]);
  const state = useSyncExternalStore(
    useMemo(() => (f: () => void) => feed.subscribe(p.id, f), [feed, p.id]),
    () => feed.get(p.id),
  );
  const drawn = useMemo(() => {
    if (!state?.table) return undefined;
    const rows = arrange(p, top(state.table.rows, p.limit ?? 32));
    const seen = new Map<string, number>();
    const lines = rows.map((r) => {
      const name = lineName(p, r);
      const n = (seen.get(name) ?? 0) + 1;
      seen.set(name, n);
      return { name: n > 1 ? `${name} ${n}` : name, below: p.queries[r.query]?.below === true };
    });
    return { xs: state.table.xs, rows: rows.map((r) => r.values), lines, range: feed.range() };
  }, [state, p, feed]);
  const title = t(`hosts.p.${p.id}` as Key);
  const how = ways(host, { ...win, length: 3600 }, interval);
  const explore = `/explore?${encodePanels(
    p.queries.slice(0, 4).map((q) => ({ expr: q.expr(how), tab: "graph", range: "1h", end: "", step: "" })),
  ).toString()}`;
  return (
    <section
      ref={ref}
      className="card panel"
      hidden={p.optional === true && drawn?.lines.length === 0}
      aria-label={title}
      data-panel={p.id}
    >
      <h3>
        {title}
        <Link
          href={explore}
          className="more"
          aria-label={t("hosts.explore", { name: title })}
          title={t("check.explore")}
        >
          <Icon name="explore" size={14} />
        </Link>
      </h3>
      {state?.error && !drawn ? (
        <Failure compact error={state.error} />
      ) : !drawn ? (
        <Skeleton rows={1} height={HEIGHT} />
      ) : drawn.lines.length ? (
        <Suspense fallback={<Skeleton rows={1} height={HEIGHT} />}>
          <SyncChart
            {...drawn}
            height={HEIGHT}
            format={p.unit}
            binary={p.unit === iec}
            stacked={p.stacked === true}
            min={p.min}
            cap={p.cap}
            label={title}
            onZoom={onZoom}
            onReset={onReset}
          />
        </Suspense>
      ) : (
        <p className="muted nodata">{t("chart.nodata")}</p>
      )}
    </section>
  );
}
