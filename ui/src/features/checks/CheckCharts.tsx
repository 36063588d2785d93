import { lazy, Suspense, useMemo } from "react";
import { Link } from "wouter";
import { useInstant, useRange, type Span } from "../../api/prom";
import type { Check, PromData, PromSeries } from "../../api/types";
import { Faces, Skeleton } from "../../components/faces";
import { Icon } from "../../components/icons";
import { num, seconds, useNow } from "../../i18n/format";
import { useT, tMaybe } from "../../i18n/i18n";
import { encodePanels } from "../../lib/exploreUrl";
import { promString } from "../../lib/matchers";
import { align, stack } from "../../lib/series";
import { parseDuration, stepFor } from "../../lib/time";

const Chart = lazy(() => import("../../components/Chart"));
const PHASES = ["resolve", "connect", "tls", "processing", "transfer"];

const matrix = (d: PromData | undefined): PromSeries[] => (d?.resultType === "matrix" ? d.result : []);

/** spanOf is the queried span; it moves on in whole steps, so that the cache can be used. */
function spanOf(range: string, interval: string | undefined, now: number): Span {
  const ms = parseDuration(range) ?? 86_400_000;
  const step = stepFor(ms, 240, Math.max(1, (parseDuration(interval ?? "60s") ?? 60_000) / 1000));
  const end = Math.floor(now / 1000 / step) * step;
  return { start: end - ms / 1000, end, step };
}

export function CheckCharts({ c, range }: { c: Check; range: string }) {
  const { t } = useT();
  const now = useNow();
  const s = spanOf(range, c.interval, now);
  const sel = `{check=${promString(c.name)}}`;
  const expr = `avg by (region) (avg_over_time(probe_duration_seconds${sel}[${s.step}s]))`;
  const time = useRange(expr, s);
  const series = useMemo(() => matrix(time.data?.data), [time.data]);
  const data = useMemo(() => align(series, s.start, s.end, s.step), [series, s.start, s.end, s.step]);
  const href = `/explore?${encodePanels([{ expr: `probe_duration_seconds${sel}`, tab: "graph", range, end: "", step: "" }]).toString()}`;
  return (
    <>
      <section className="card" aria-labelledby="ck-time">
        <h2 id="ck-time">
          {t("checks.response")}
          <Link href={href} className="more">
            {t("check.explore")} <Icon name="right" size={13} />
          </Link>
        </h2>
        <Faces query={time} rows={1} height={240}>
          {series.length ? (
            <Suspense fallback={<Skeleton rows={1} height={240} />}>
              <Chart
                label={t("check.chart.label")}
                data={data}
                lines={series.map((x) => ({ name: x.metric.region ?? "" }))}
                format={seconds}
              />
            </Suspense>
          ) : (
            <p className="muted nodata">{t("chart.nodata")}</p>
          )}
        </Faces>
      </section>
      {c.type === "http" && <Phases sel={sel} s={s} />}
      {["http", "tls", "websocket", "grpc"].includes(c.type) && <Certificate sel={sel} now={now} />}
    </>
  );
}

function Phases({ sel, s }: { sel: string; s: Span }) {
  const { t } = useT();
  const query = useRange(`avg by (phase) (avg_over_time(probe_http_duration_seconds${sel}[${s.step}s]))`, s);
  const series = useMemo(() => {
    const rank = (x: PromSeries) => PHASES.indexOf(x.metric.phase ?? "") + 1 || 99;
    return [...matrix(query.data?.data)].sort((a, b) => rank(a) - rank(b));
  }, [query.data]);
  const data = useMemo(() => stack(align(series, s.start, s.end, s.step)), [series, s.start, s.end, s.step]);
  if (!series.length) return null;
  return (
    <section className="card" aria-labelledby="ck-phases">
      <h2 id="ck-phases">{t("check.phases")}</h2>
      <Suspense fallback={<Skeleton rows={1} height={200} />}>
        <Chart
          label={t("check.phases")}
          height={200}
          stacked
          data={data}
          lines={series.map((x) => ({
            name: tMaybe(`phase.${x.metric.phase ?? ""}`) ?? x.metric.phase ?? "",
          }))}
          format={seconds}
        />
      </Suspense>
    </section>
  );
}

function Certificate({ sel, now }: { sel: string; now: number }) {
  const { t } = useT();
  const query = useInstant(
    `min(probe_ssl_last_chain_expiry_timestamp_seconds${sel} > 0 or probe_ssl_earliest_cert_expiry${sel})`,
    null,
  );
  const d = query.data?.data;
  const v = d?.resultType === "vector" ? Number(d.result[0]?.value?.[1]) : NaN;
  if (!Number.isFinite(v) || v <= 0) return null;
  const days = Math.floor((v - now / 1000) / 86_400);
  return (
    <section className={`card cert${days < 7 ? " bad" : days < 21 ? " soon" : ""}`} aria-labelledby="ck-cert">
      <h2 id="ck-cert">
        <Icon name="lock" size={16} />
        {t("check.cert")}
      </h2>
      <p>{days < 0 ? t("check.cert.expired", { n: -days }) : t("check.cert.days", { n: days })}</p>
      <small className="muted">
        {t("check.cert.until", { date: new Date(v * 1000).toISOString().slice(0, 10), days: num(days) })}
      </small>
    </section>
  );
}
